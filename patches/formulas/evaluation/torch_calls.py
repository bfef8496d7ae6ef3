"""Calls of torch's functions and of tensors' methods, besides the elementwise ones: noise, new tensors, conversions."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from patches.formulas.evaluation.elementwise import NAMED, compute
from patches.formulas.evaluation.values import Gaussian, Note, Opaque, Tensor, Unknown, number

TORCH = {"torch", "th"}
NUMERIC = TORCH | {"torch.special", "math", "np", "numpy"}
DISTRIBUTIONS = {"torch.distributions", "distributions", "torch.distributions.normal", "torch.distributions.kl"}
FLOAT_DTYPES = {"float", "float32", "float64", "double"}
WITHOUT_EFFECT = {"device", "requires_grad", "layout", "memory_format", "generator", "pin_memory"}
WITHOUT_EFFECT |= {"non_blocking", "copy", "validate_args"}

LIKE = {"empty_like": math.nan, "zeros_like": 0.0, "ones_like": 1.0}
SHAPED = {"empty": math.nan, "zeros": 0.0, "ones": 1.0, "FloatTensor": math.nan}
NEW = {"new": math.nan, "new_empty": math.nan, "new_zeros": 0.0, "new_ones": 1.0}
REDUCTIONS = {"sum": "sums over elements", "mean": "averages over elements"}
CLAMPS = {"clamp", "clip", "clamp_min", "clamp_max", "clamp_", "minimum", "maximum"}
PASSED_OVER = set(REDUCTIONS) | CLAMPS
SAME = {"float", "double", "cuda", "cpu", "contiguous", "type_as", "requires_grad_", "to", "type"}


@dataclass(frozen=True)
class Call:
    """A call's name and evaluated arguments, and where its noise and notes go."""

    name: str
    arguments: Sequence[object]
    keywords: dict[str, object]
    line: int
    noise: Callable[[], float]
    notes: list[Note]

    def note(self, what: str, gradient: bool = False) -> None:
        self.notes.append(Note(self.line, what, gradient))

    def take(self, *names: str, **defaults: object) -> list[object]:
        """Arguments in the order of these names; Unknown if one without a default is missing or another is given."""
        given = dict(zip(names, self.arguments)) | self.keywords
        if len(self.arguments) > len(names) or set(given) - set(names):
            raise Unknown(f"gives {self.name} arguments that it is not known to have", self.line)
        if missing := [name for name in names if name not in given and name not in defaults]:
            raise Unknown(f"gives {self.name} no {missing[0]}", self.line)
        return [given.get(name, defaults.get(name)) for name in names]


def call_module(module: str, call: Call) -> object:
    """The value of a call such as torch.exp(x); Unknown for a function that is not known."""
    if module in NUMERIC and call.name in NAMED:
        return compute(call.name, call.arguments, call.keywords)
    if module in DISTRIBUTIONS and call.name in _DISTRIBUTIONS:
        return _DISTRIBUTIONS[call.name](call)
    if module in TORCH | {"torch.cuda"} and (made := _create(call)) is not None:
        return made
    if call.arguments and (passed := _pass_over(call, call.arguments[0])) is not None:
        return passed
    raise Unknown(f"calls {module}.{call.name}, which is not known", call.line)


def call_method(receiver: object, call: Call) -> object:
    """The value of a call such as x.exp(); Unknown for a method that is not known."""
    if isinstance(receiver, Gaussian) and call.name in {"sample", "rsample"}:
        return _sample(receiver, call)
    if not isinstance(receiver, Tensor):
        raise Unknown(f"calls the method {call.name} of something that is no tensor", call.line)
    if call.name in NAMED:
        return compute(call.name, (receiver, *call.arguments), call.keywords)
    if call.name.endswith("_") and call.name[:-1] in NAMED:
        receiver.value = number(compute(call.name[:-1], (receiver, *call.arguments), call.keywords))
        return receiver
    return _other_method(receiver, call)


def _other_method(receiver: Tensor, call: Call) -> object:
    if (passed := _pass_over(call, receiver)) is not None:
        return passed
    if call.name == "normal_":
        mean, std = call.take("mean", "std", mean=0.0, std=1.0)
        receiver.value = number(mean) + number(std) * call.noise()
        return receiver
    if call.name in SAME and all(_keeps_values(call, to) for to in (*call.arguments, *call.keywords.values())):
        return receiver
    if call.name in {"detach", "detach_"}:
        call.note("stops the gradient", gradient=True)
        return receiver
    return _derived(receiver, call)


def _derived(receiver: Tensor, call: Call) -> object:
    if call.name == "clone":
        return Tensor(receiver.value)
    if call.name == "size" and not call.arguments:
        return Opaque("shape")
    if call.name in NEW:
        return Tensor(_shaped(call, NEW[call.name]))
    raise Unknown(f"calls the method {call.name}, which is not known", call.line)


def _pass_over(call: Call, value: object) -> object | None:
    """A sum's or a clamp's argument as it is, with a note; None for other calls."""
    if call.name in REDUCTIONS:
        call.note(REDUCTIONS[call.name])
    elif call.name in CLAMPS:
        call.note("clamps")
    else:
        return None
    return value if isinstance(value, Tensor) else None


def _keeps_values(call: Call, to: object) -> bool:
    """Whether a conversion to this is one of device or to a float dtype; a dtype in a string is not known."""
    is_device = isinstance(to, (str, bool)) and call.name != "type"
    return to in (Opaque("dtype"), Opaque("device")) or isinstance(to, Tensor) or is_device


def _create(call: Call) -> object | None:
    if call.name == "randn":
        return Tensor(_shaped(call, call.noise()))
    if call.name == "randn_like" and _is_like(call):
        return Tensor(call.noise())
    if call.name == "normal":
        return _normal(call)
    if call.name in LIKE and _is_like(call):
        return Tensor(LIKE[call.name])
    if call.name in SHAPED:
        return Tensor(_shaped(call, SHAPED[call.name]))
    return _constant(call)


def _constant(call: Call) -> object | None:
    if call.name == "full_like":
        return Tensor(number(call.take("input", "fill_value", "dtype", dtype=None)[1]))
    if call.name in {"tensor", "as_tensor"}:
        return Tensor(number(call.take("data", "dtype", dtype=None)[0]))
    return Opaque("device") if call.name == "device" else None


def _is_like(call: Call) -> bool:
    like, dtype = call.take("input", "dtype", dtype=Opaque("dtype"))
    return isinstance(like, Tensor) and dtype == Opaque("dtype")


def _shaped(call: Call, value: float) -> float:
    """`value`, if the call's arguments are the shape of a tensor: another shape would be broadcast."""
    shape, dtype = call.take("size", "dtype", dtype=Opaque("dtype"))
    if shape != Opaque("shape") or dtype != Opaque("dtype"):
        raise Unknown(f"calls {call.name} with a shape that is not a tensor's", call.line)
    return value


def _normal(call: Call) -> Tensor:
    mean, std, size = call.take("mean", "std", "size", std=1.0, size=None)
    tensors = isinstance(mean, Tensor) or isinstance(std, Tensor)
    if size != (None if tensors else Opaque("shape")):
        raise Unknown("calls normal with a shape that is not a tensor's", call.line)
    if tensors:
        call.note("stops the gradient", gradient=True)
    return Tensor(number(mean) + number(std) * call.noise())


def _gaussian(call: Call) -> Gaussian:
    return Gaussian(*call.take("loc", "scale"))


def _kl_divergence(call: Call) -> Tensor:
    p, q = call.take("p", "q")
    if not (isinstance(p, Gaussian) and isinstance(q, Gaussian)):
        raise Unknown("calls kl_divergence with something that is no Normal", call.line)
    scale, loc = compute("div", (p.scale, q.scale)), compute("sub", (p.loc, q.loc))
    unit = compute("div", (loc, q.scale))
    squares = number(compute("square", (scale,))) + number(compute("square", (unit,)))
    return Tensor((squares - 1) / 2 - number(compute("log", (scale,))))


def _sample(distribution: Gaussian, call: Call) -> Tensor:
    """One noise number for each element: without a shape if its parameters are tensors, else with a tensor's shape."""
    (shape,) = call.take("sample_shape", sample_shape=None)
    tensors = isinstance(distribution.loc, Tensor) or isinstance(distribution.scale, Tensor)
    if shape != (None if tensors else Opaque("shape")):
        raise Unknown(f"calls {call.name} with a shape that is not a tensor's", call.line)
    if call.name == "sample" and tensors:
        call.note("stops the gradient", gradient=True)
    return Tensor(number(distribution.loc) + number(distribution.scale) * call.noise())


_DISTRIBUTIONS = {"Normal": _gaussian, "kl_divergence": _kl_divergence}
