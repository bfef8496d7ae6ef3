"""expm1(x) - x, the part of a normal's KL that cancels where two scales are near each other."""

from torch import Tensor


def expm1_minus_x(x: Tensor) -> Tensor:
    """expm1(x) - x elementwise, computed in float64, of x's shape and dtype; the derivative is expm1(x).

    expm1(x) is about x and the result about x^2/2, so float64's 53 bits leave float32's 24 down to |x| = 2^-28, where the
    result is 7e-18. Below, and for a float64 x, the relative error is 2^-52/|x|. Apple's GPUs (device "mps") have no
    float64: there x is computed in its own dtype, with a relative error of up to 2^-23/|x|.
    x = -inf gives +inf, x = +inf gives NaN (inf - inf), NaN is NaN.
    """
    wide = x if x.device.type == "mps" else x.double()
    return (wide.expm1() - wide).to(x.dtype)
