"""Tries `python -m patches` on checkouts of public code, and prints a row of a table for each.

    python -m benchmarks.accuracy.patched_forks CHECKOUT...

A row has the name of the folder, the number of Python files, the CPU seconds of --check, and what came out: the first message of
a refusal, or what is rewritten. A copy of a tree that is rewritten is also written, compiled and reverted. The exit status
is 1 if the revert does not restore every byte, or if a written file is not Python.
"""

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = {"posterior": "latents", "--sigma_param": "flags", "the training loop": "counts"}  # by the beginnings of descriptions


def patches(command: str, tree: Path) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "patches", command, str(tree)], cwd=ROOT, capture_output=True, text=True)


def cpu_seconds() -> float:
    """Of all processes that were started and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def contents(tree: Path) -> dict[str, bytes]:
    return {str(path.relative_to(tree)): path.read_bytes() for path in sorted(tree.rglob("*")) if path.is_file()}


def is_restored(tree: Path) -> bool:
    """Writes, compiles and reverts a copy, and says whether all three went well."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(tree, copy, symlinks=True, ignore=shutil.ignore_patterns(".git"))
        before = contents(copy)
        written = patches("--write", copy)
        for path, data in contents(copy).items():
            if path.endswith(".py") and before.get(path) != data:
                compile(data, path, "exec")
        return written.returncode == 0 and patches("--revert", copy).returncode == 0 and contents(copy) == before


def row(tree: Path) -> tuple[str, bool]:
    """The row of one checkout, and whether nothing went wrong."""
    start, holds = cpu_seconds(), True
    done = patches("--check", tree)
    seconds = cpu_seconds() - start
    if done.returncode == 1:
        parts = [part for words, part in PARTS.items() if f": {words}" in done.stdout or f"; {words}" in done.stdout]
        holds = is_restored(tree)
        result = ", ".join(parts) + (" are rewritten" if holds else " are rewritten, but --write or --revert FAILS")
    else:
        refusals = [line.removeprefix("cannot: ") for line in done.stderr.splitlines() if line.startswith("cannot: ")]
        more = f" and {len(refusals) - 1} more" * (len(refusals) > 1)
        result = f"refused: `{refusals[0]}`{more}" if refusals else "nothing to do"
    files = sum(1 for _ in tree.rglob("*.py"))
    return f"| {tree.name.replace('+', '/')} | {files} | {seconds:.1f} | {result} |", holds


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy.patched_forks", description=__doc__.splitlines()[0])
    parser.add_argument("checkouts", nargs="+", type=Path, metavar="CHECKOUT", help="folders, which stay as they are")
    print("| checkout | files | CPU seconds | result |\n|---|---|---|---|")
    hold = True
    for tree in parser.parse_args(arguments).checkouts:
        line, holds = row(tree.resolve())
        hold = hold and holds
        print(line, flush=True)
    return int(not hold)


if __name__ == "__main__":
    sys.exit(main())
