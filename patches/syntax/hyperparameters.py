"""Where a class has its hyper-parameters at hand while it is being built."""

from typing import NamedTuple

import libcst as cst
from libcst import matchers as m

from patches.syntax.names import methods

# Of the original's hyper-parameters those that a latent block or the model around it may read.
KNOWN = {
    "zdim", "width", "custom_width_str", "bottleneck_multiple", "enc_blocks", "dec_blocks", "no_bias_above",
    "num_mixtures", "image_size", "image_channels", "dataset",
}  # fmt: skip


class Holder(NamedTuple):
    """The expression that holds the hyper-parameters, and the statement after which it may be read."""

    expression: str
    after: cst.BaseStatement


def holder(module: cst.Module, owner: cst.ClassDef) -> Holder | None:
    """The one argument of __init__, or attribute of self, on which the class reads known hyper-parameters.

    Read in __init__ itself, or in the first method that fills self and has no __init__ beside it. None when there is no
    such expression or more than one.
    """
    builders = [method for method in methods(owner) if method.name.value == "__init__"] or methods(owner)
    for builder in builders:
        parameters = {parameter.name.value for parameter in builder.params.params[1:]}
        found = {holder for holder in _holders(module, builder, parameters)}
        preferred = found & parameters or found
        if len(preferred) == 1 and _fills_self(builder):
            return Holder(preferred.pop(), _start(builder))
    return None


def _holders(module: cst.Module, builder: cst.FunctionDef, parameters: set[str]) -> list[str]:
    reads = m.findall(builder.body, m.Attribute(attr=m.OneOf(*(m.Name(name) for name in KNOWN))))
    code = [module.code_for_node(read.value) for read in reads]
    of_self = {module.code_for_node(node) for node in m.findall(builder.body, m.Attribute(value=m.Name("self")))}
    return [text for text in code if text in parameters or (text in of_self and text.count(".") == 1)]


def _fills_self(builder: cst.FunctionDef) -> bool:
    return bool(m.findall(builder.body, m.AssignTarget(m.Attribute(value=m.Name("self")))))


def _start(builder: cst.FunctionDef) -> cst.BaseStatement:
    """The call of super's __init__ if there is one, else the docstring or the first statement."""
    body = builder.body.body
    supers = [line for line in body if m.findall(line, m.Call(func=m.Attribute(attr=m.Name("__init__"))))]
    return supers[0] if supers else body[0]
