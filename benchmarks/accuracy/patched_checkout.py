"""Patches a copy of a checkout of openai/vdvae and compares it with the unpatched one and with the golden figures.

    python -m benchmarks.accuracy.patched_checkout CHECKOUT

Prints a table and exits with 1 if a figure differs. It runs on a CPU with one thread and the stand-ins of
benchmarks/cost/original_code.py. Where a pixel's bin mass is near 1e-5, float32 does not determine a gradient: another
processor's kernels move it by percents, in the unpatched code too. So a norm may also differ by what it moves when each
weight moves by one unit in the last place.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NUDGES = 8
NUDGED = """
import sys
import torch
from benchmarks.cost import original_code
weight, generator = original_code.generated_weight, torch.Generator().manual_seed(int(sys.argv.pop()))
def nudged(name, shape):
    return weight(name, shape) * (1 + torch.randint(-1, 2, tuple(shape), generator=generator) * 2.0**-23)
original_code.generated_weight = nudged
original_code.main()
"""
GOLDEN = json.loads((ROOT / "tests/golden/upstream_parity.json").read_text())
LOSS_TOLERANCE, GRADIENT_TOLERANCE = 2e-5, 2e-4  # from golden/README.md, for a faithful implementation


def run(checkout: Path, what: str, argument: str, *flags: str, nudge: int = 0) -> dict:
    """Runs benchmarks/cost/original_code.py on the checkout, in a process of its own, and gives the figures that it prints.

    With a `nudge`, a number above 0, each weight is moved by one unit in the last place up, down, or not at all.
    """
    program = ["-c", NUDGED] if nudge else [str(ROOT / "benchmarks/cost/original_code.py")]
    command = [sys.executable, *program, str(checkout), what, argument, *flags, *([str(nudge)] if nudge else [])]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} if nudge else None
    done = subprocess.run(command, capture_output=True, text=True, cwd=checkout, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def patched_copy(checkout: Path, folder: Path) -> Path:
    """A copy that `python -m patches --write --vendor` has changed."""
    copy = folder / "patched"
    shutil.copytree(checkout, copy, ignore=shutil.ignore_patterns(".git"))
    subprocess.run([sys.executable, "-m", "patches", "--write", str(copy), "--vendor"], check=True, cwd=ROOT)
    return copy


def relative_errors(actual: dict, expected: dict) -> dict[str, float]:
    """The relative error of each figure by its name."""
    return {name: abs(actual[name] - value) / max(abs(value), 1e-30) for name, value in expected.items()}


def compare_variant(case: str, variant: str, expected: dict, patched: Path) -> bool:
    """Prints the row of one combination of flags and says whether it holds."""
    name, _, const = variant.partition("/")
    flags = ["--sigma_param", name, *(["--prior_const1"] if const else [])]
    actual = run(patched, "figures", case, *flags)
    loss, errors = abs(actual["elbo"] / expected["elbo"] - 1), relative_errors(actual["grad_norms"], expected["grad_norms"])
    far = {name: error for name, error in errors.items() if error > GRADIENT_TOLERANCE}
    for nudge in range(1, NUDGES + 1) if far else ():
        moved = relative_errors(run(patched, "figures", case, *flags, nudge=nudge)["grad_norms"], actual["grad_norms"])
        far = {name: error for name, error in far.items() if error > GRADIENT_TOLERANCE + moved.get(name, 0)}
    holds = loss <= LOSS_TOLERANCE and not far
    undetermined = sum(error > GRADIENT_TOLERANCE for error in errors.values())
    verdict = "TOO FAR" if not holds else f"{undetermined} of {len(errors)} undetermined" if undetermined else ""
    print(f"| {case} | {variant} | {loss:.1e} | {max(errors.values()):.1e} | {verdict} |", flush=True)
    return holds


def compare_case(case: str, checkout: Path, patched: Path) -> bool:
    """Prints the rows of one golden case and says whether all of them hold."""
    before, after = run(checkout, "figures", case), run(patched, "figures", case)
    holds = before == after
    print(f"| {case} | no flags | {'bitwise the unpatched checkout' if holds else 'DIFFERS from the unpatched'} | | |")
    variants = GOLDEN[case]["results"]
    return all([holds, *(compare_variant(case, variant, variants[variant], patched) for variant in variants)])


def compare_logs(checkout: Path, patched: Path, folder: Path) -> None:
    """Runs both training loops on the same data, with a NaN and a too high gradient, and shows what the log readers print."""
    runs = []
    for name, tree in (("unpatched", checkout), ("patched", patched)):
        run_folder = folder / name / "run"
        run_folder.mkdir(parents=True)
        run(tree, "loop", str(run_folder))
        runs.append(str(run_folder))
    print("\n" + (folder / "patched/run/events.jsonl").read_text())
    for tool in ("inspect", "compare"):
        arguments = runs[1:] if tool == "inspect" else runs
        subprocess.run([sys.executable, "-m", f"vdvae.{tool}", *arguments], check=True, cwd=ROOT)


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 1 if a figure differs, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy.patched_checkout", description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path, help="a checkout of openai/vdvae, which stays as it is")
    checkout = parser.parse_args(arguments).checkout.resolve()
    with tempfile.TemporaryDirectory() as folder:
        patched = patched_copy(checkout, Path(folder))
        print("\n| case | flags | loss, relative error | gradient norms, largest relative error | |\n|---|---|---|---|---|")
        holds = all([compare_case(case, checkout, patched) for case in GOLDEN])
        compare_logs(checkout, patched, Path(folder))
    return int(not holds)


if __name__ == "__main__":
    sys.exit(main())
