"""The calls of torch's functions and of tensors' methods that a KL or a draw can make."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from patches.formulas.values import OPERATIONS, Opaque, Tensor, Unknown, compute, number

TORCH = {"torch", "th"}
NUMERIC = TORCH | {"torch.special", "math", "np", "numpy"}
WITHOUT_EFFECT = {"device", "requires_grad", "generator", "non_blocking"}
FROM_TENSOR = {"empty_like": math.nan, "zeros_like": 0.0}  # each with the value that it fills in
FROM_SHAPE = {"empty": math.nan, "zeros": 0.0, "FloatTensor": math.nan}
CONVERSIONS = {"float", "double", "cuda", "cpu", "contiguous", "to", "type_as"}
REFUSED = {"sum": "sums over elements", "mean": "averages over elements", "detach": "stops the gradient"}
REFUSED |= dict.fromkeys(("clamp", "clip", "clamp_min", "clamp_max", "clamp_", "maximum", "minimum"), "clamps")


@dataclass(frozen=True)
class Call:
    """`owner` is a module's dotted name, or the value whose method is called; `noise` draws a standard normal number."""

    owner: object
    name: str
    arguments: list[object]
    keywords: dict[str, object]
    noise: Callable[[], float]

    def value(self) -> object:
        """What the call returns; raises Unknown for a function, a method or an argument that is not known."""
        if self.name in OPERATIONS and not self.keywords and (isinstance(self.owner, Tensor) or self.owner in NUMERIC):
            receiver = [self.owner] if isinstance(self.owner, Tensor) else []
            return compute(self.name, *receiver, *self.arguments)
        if isinstance(self.owner, Tensor):
            return self._method(self.owner)
        if self.owner in TORCH and not set(self.keywords) - {"dtype"}:
            if (made := self._new_tensor()) is not None:
                return made
        raise self._unknown()

    def _unknown(self) -> Unknown:
        function = f"{self.owner}.{self.name}" if isinstance(self.owner, str) else f"the method {self.name}"
        return Unknown(f"calls {function} in a way that is not known")

    def _method(self, tensor: Tensor) -> object:
        name, arguments = self.name, self.arguments
        if name == "normal_":
            given = dict(zip(("mean", "std"), arguments)) | self.keywords
            mean, std = number(given.pop("mean", 0.0)), number(given.pop("std", 1.0))
            tensor.value = math.nan if given else mean + std * self.noise()
        elif name.endswith("_") and name[:-1] in OPERATIONS and not self.keywords:
            tensor.value = number(compute(name[:-1], tensor, *arguments))
        elif name == "clone" and not arguments:
            return Tensor(tensor.value)
        elif name == "size" and not arguments:
            return Opaque("shape")
        elif name not in CONVERSIONS:  # their arguments are known, so these are devices or float dtypes
            raise self._unknown()
        return tensor

    def _new_tensor(self) -> Tensor | None:
        """A tensor with the shape of another one; None for a call that makes anything else."""
        has_dtype = self.keywords.get("dtype", Opaque("dtype")) == Opaque("dtype")
        if len(self.arguments) != 1 or not has_dtype:
            return None
        if isinstance(self.arguments[0], Tensor) and self.name in {"randn_like", *FROM_TENSOR}:
            return Tensor(self.noise() if self.name == "randn_like" else FROM_TENSOR[self.name])
        if self.arguments[0] == Opaque("shape") and self.name in {"randn", *FROM_SHAPE}:
            return Tensor(self.noise() if self.name == "randn" else FROM_SHAPE[self.name])
        return None
