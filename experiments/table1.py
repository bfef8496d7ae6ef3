"""Table 1 of Dehaene & Brossard 2021, the smallest log sigma whose KL is finite: python -m experiments.table1"""

from collections.abc import Callable

import torch
from tabulate import tabulate
from torch import Tensor
from torch.distributions import kl_divergence

from stable_params import Exp, NaiveExp

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
LOWEST = -2000  # the last step; beyond -2048 float16 does not hold every integer


def naive_log_ratio(log_sigma: Tensor) -> Tensor:
    """log(sigma2/sigma1) with sigma2 = 1 and sigma1 through exp and log (eq. 7)."""
    return NaiveExp()(torch.zeros_like(log_sigma)).log_sigma - NaiveExp()(log_sigma).log_sigma


def torch_kl(log_sigma: Tensor) -> Tensor:
    """KL(N(0, sigma1) || N(0, 1)) of torch.distributions, which takes half the log of the squared ratio."""
    zero, one = torch.zeros_like(log_sigma), torch.ones_like(log_sigma)
    # validate_args=False: torch.distributions refuses sigma = 0 before it computes a KL.
    normals = [torch.distributions.Normal(zero, sigma, validate_args=False) for sigma in (log_sigma.exp(), one)]
    return kl_divergence(*normals)


def our_kl(log_sigma: Tensor) -> Tensor:
    """The same KL of this library, with sigma = exp p and log sigma = p."""
    zero = torch.zeros_like(log_sigma)
    return Exp().normal(zero, log_sigma).kl(Exp().normal(zero, zero))


FORMS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {  # name: what is computed, what the paper prints for it
    "log sigma2 - log sigma1, NaiveExp": (naive_log_ratio, "float32 -103, float16 -17"),
    f"KL of PyTorch {torch.__version__}": (torch_kl, "float32 -51, float16 -8"),
    "KL of this library, Exp": (our_kl, "-"),
}


def smallest_finite(form: Callable[[Tensor], Tensor], dtype: torch.dtype) -> int:
    """The last integer log sigma1, in steps down from 0 to LOWEST, up to which every result is finite."""
    steps = torch.arange(0, LOWEST - 1, -1).to(dtype)
    return 1 - int(form(steps).isfinite().cumprod(0).sum())


def cell(log_sigma: int) -> str:
    """The number with its sigma; LOWEST as a bound that nothing crossed."""
    return f"none to {LOWEST}" if log_sigma == LOWEST else f"{log_sigma} ({torch.tensor(log_sigma).double().exp():.2e})"


def main() -> None:
    """Prints the table in Markdown."""
    print("Smallest log sigma1 (sigma1), in integer steps down from 0, with a finite result; sigma2 = 1\n")
    rows = [[name, *(cell(smallest_finite(form, dtype)) for dtype in DTYPES), paper] for name, (form, paper) in FORMS.items()]
    headers = ["form", *(str(dtype).removeprefix("torch.") for dtype in DTYPES), "paper"]
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
