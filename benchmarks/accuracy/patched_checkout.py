"""Patches a copy of a checkout of openai/vdvae and compares it with the unpatched one and with the golden figures.

    python -m benchmarks.accuracy.patched_checkout CHECKOUT

Prints a table and exits with 1 if a figure differs. It runs on a CPU with one thread and the stand-ins of
benchmarks/cost/original_code.py.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = json.loads((ROOT / "tests/golden/upstream_parity.json").read_text())
LOSS_TOLERANCE, GRADIENT_TOLERANCE = 2e-5, 2e-4  # from golden/README.md, for a faithful implementation


def run(checkout: Path, what: str, argument: str, *flags: str) -> dict:
    """Runs benchmarks/cost/original_code.py on the checkout, in a process of its own, and gives the figures that it prints."""
    command = [sys.executable, str(ROOT / "benchmarks/cost/original_code.py"), str(checkout), what, argument, *flags]
    done = subprocess.run(command, capture_output=True, text=True, cwd=checkout)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def patched_copy(checkout: Path, folder: Path) -> Path:
    """A copy that `python -m patches --write --vendor` has changed."""
    copy = folder / "patched"
    shutil.copytree(checkout, copy, ignore=shutil.ignore_patterns(".git"))
    subprocess.run([sys.executable, "-m", "patches", "--write", str(copy), "--vendor"], check=True, cwd=ROOT)
    return copy


def relative_error(actual: dict, expected: dict) -> tuple[float, float]:
    """The relative error of the loss, and the largest one of the gradient norms."""
    loss = abs(actual["elbo"] / expected["elbo"] - 1)
    norms = [(actual["grad_norms"][name], norm) for name, norm in expected["grad_norms"].items()]
    return loss, max(abs(got - want) / max(want, 1e-30) for got, want in norms if want or got)


def compare_case(case: str, checkout: Path, patched: Path) -> bool:
    """Prints the rows of one golden case and says whether all of them hold."""
    before, after = run(checkout, "figures", case), run(patched, "figures", case)
    holds = before == after
    print(f"| {case} | no flags | {'bitwise the unpatched checkout' if holds else 'DIFFERS from the unpatched'} | |")
    for variant, expected in GOLDEN[case]["results"].items():
        name, _, const = variant.partition("/")
        actual = run(patched, "figures", case, "--sigma_param", name, *(["--prior_const1"] if const else []))
        loss, gradient = relative_error(actual, expected)
        good = loss <= LOSS_TOLERANCE and gradient <= GRADIENT_TOLERANCE
        holds &= good
        print(f"| {case} | {variant} | {loss:.1e} | {gradient:.1e}{'' if good else ' TOO FAR'} |", flush=True)
    return holds


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
        print("\n| case | flags | loss, relative error | gradient norms, largest relative error |\n|---|---|---|---|")
        holds = all([compare_case(case, checkout, patched) for case in GOLDEN])
        compare_logs(checkout, patched, Path(folder))
    return int(not holds)


if __name__ == "__main__":
    sys.exit(main())
