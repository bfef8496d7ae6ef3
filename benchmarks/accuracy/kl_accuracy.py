"""Where float32 KL forms give inf, NaN or no digit: python -m benchmarks.accuracy.kl_accuracy"""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.accuracy.kl_forms import ours, torch_distributions, vdvae

REFERENCE = Path(__file__).resolve().parents[2] / "tests/golden/kl_reference.json"
FORMS: dict[str, Callable[..., Tensor]] = {
    "this library": ours,
    "original VDVAE": vdvae,
    "torch.distributions": torch_distributions,
}


def references() -> tuple[list[Tensor], Tensor]:
    """(delta, log sigma1, log sigma2) in float32 and the true KL in float64, from the table of references."""
    rows = json.loads(REFERENCE.read_text())["rows"]
    inputs = torch.tensor([row[:3] for row in rows]).T
    return list(inputs), torch.tensor([float(row[3]) for row in rows], dtype=torch.float64)


def outcomes(kl: Tensor, true: Tensor) -> dict[str, int]:
    """Counts over the points whose true KL float32 holds: each point falls in exactly one class."""
    kl = kl.double()
    keep = true <= torch.finfo(torch.float32).max
    kl, true = kl[keep], true[keep]
    error = (kl - true).abs() / true.clamp(min=2.0**-126)
    error[kl == true] = 0
    nan, inf = kl.isnan(), kl.isinf()
    none, few = error >= 1, error > 1e-4
    masks = {"NaN": nan, "inf": inf, "no correct digit": none & ~inf, "1 to 3 digits": few & ~none}
    masks["4 digits or more"] = ~few & ~nan
    return {name: int(mask.sum()) for name, mask in masks.items()}


def main() -> None:
    """Prints one row per form and kind of point."""
    (delta, log_sigma, prior_log_sigma), true = references()
    difference = (log_sigma - prior_log_sigma).abs()
    near = (difference < 0.01) & (difference > 0) & (delta == 0)
    kinds = {"all": difference >= 0, "equal means, log sigmas nearer than 0.01 but not equal": near}
    for kind, mask in kinds.items():
        print(f"\nfloat32, {kind}\n")
        for i, (name, form) in enumerate(FORMS.items()):
            zero = torch.zeros_like(delta[mask])
            row = outcomes(form(delta[mask], log_sigma[mask], zero, prior_log_sigma[mask]), true[mask])
            if i == 0:
                print("| form | " + " | ".join(row) + " |\n" + "|---" * (len(row) + 1) + "|")
            print(f"| {name} | " + " | ".join(map(str, row.values())) + " |")


if __name__ == "__main__":
    main()
