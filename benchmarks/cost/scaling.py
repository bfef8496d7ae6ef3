"""The tables of docs/scaling.md: what many GPUs have to send, and how much compute hides it.

    python -m benchmarks.cost.scaling              prints them
    python -m benchmarks.cost.scaling --write      puts them into docs/scaling.md
    python -m benchmarks.cost.scaling --measure    trains on one and on two CPU ranks and prints images per second
"""

import argparse
import math
from pathlib import Path

from tabulate import tabulate

from benchmarks.cost.scaling_model import (
    BFLOAT16, FLOAT32, GPUS_PER_NODE, NVLINK, TRAIN_IMAGES, Work, allreduce_seconds, compute_seconds, count_work,
    ring_bytes, updates_per_epoch,
)  # fmt: skip
from benchmarks.cost.scaling_runs import measure, measured_table

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "scaling.md"
OPENING, CLOSING = "<!-- table: {name} -->\n\n", "\n\n<!-- end -->"
GPUS = (8, 32, 256)
# Cases of the network: GPUs, links of a node, what the tables call them. One node uses none.
CASES = [(8, GPUS_PER_NODE, "none")]
CASES += [(gpus, links, text) for gpus in GPUS[1:] for links, text in ((1, "one a node"), (GPUS_PER_NODE, "one a GPU"))]
PARTS_CASE, PARTS = (32, 1), (1, 2, 4, 8)  # of the table of --accumulate_steps: GPUs and links; parts


def tables() -> dict[str, str]:
    """All tables as markdown, by name."""
    works = [count_work(name) for name in TRAIN_IMAGES]
    return {"work": work_table(works), "batches": batch_table(works), "allreduce": allreduce_table(works),
            "hidden": hidden_table(works), "parts": parts_table(works[0])}


def work_table(works: list[Work]) -> str:
    """What one image costs, and what one update sends."""
    headings = ["set", "parameters", "GFLOP forward", "backward", "both", "gradients, float32", "bfloat16"]
    rows = [[work.name, f"{work.parameters:,}", *(_number(flop / 1e9) for flop in _flops(work)),
             *(f"{_number(work.parameters * width / 1e6)} MB" for width in (FLOAT32, BFLOAT16))] for work in works]
    return _markdown(headings, rows)


def batch_table(works: list[Work]) -> str:
    """Global batch and updates of an epoch with the sets' own n_batch."""
    headings = ["set", "training images", "n_batch", *(f"{gpus} GPUs: batch, updates" for gpus in GPUS)]
    rows = [[work.name, f"{TRAIN_IMAGES[work.name]:,}", work.n_batch,
             *(f"{gpus * work.n_batch:,}, {updates_per_epoch(work, gpus):,}" for gpus in GPUS)] for work in works]
    return _markdown(headings, rows)


def allreduce_table(works: list[Work]) -> str:
    """Bytes and time of one all-reduce; each cell float32 / bfloat16."""
    headings = ["set", "GPUs", "each sends in one ring, MB", "that over NVLink alone, ms",
                "one link a node, ms", "one link a GPU, ms"]
    return _markdown(headings, [_allreduce_row(work, gpus) for work in works for gpus in GPUS])


def _allreduce_row(work: Work, gpus: int) -> list[str]:
    sizes = [work.parameters * width for width in (FLOAT32, BFLOAT16)]
    sent = [ring_bytes(size, gpus) for size in sizes]
    times = ([1e3 * allreduce_seconds(size, gpus, links) for size in sizes] for links in (1, GPUS_PER_NODE))
    network = ["–", "–"] if gpus == GPUS_PER_NODE else [_pair(pair) for pair in times]
    return [work.name, str(gpus), _pair(number / 1e6 for number in sent), _pair(1e3 * n / NVLINK for n in sent), *network]


def hidden_table(works: list[Work]) -> str:
    """Where the all-reduce stops hiding behind the backward pass, with the sets' own n_batch; float32 / bfloat16."""
    headings = ["set", "n_batch", "GPUs", "network links", "all-reduce, ms", "shortest compute that hides it, ms",
                "the same in images/s", "in TFLOP/s", "half waiting at images/s"]
    return _markdown(headings, [_hidden_row(work, *case) for work in works for case in CASES])


def _hidden_row(work: Work, gpus: int, links: int, link_text: str) -> list[str]:
    times = [allreduce_seconds(work.parameters * width, gpus, links) for width in (FLOAT32, BFLOAT16)]
    hidden, half = ([compute_seconds(time, work.backward_share, share) for time in times] for share in (1, 0.5))
    flop = work.n_batch * (work.forward + work.backward)
    return [work.name, str(work.n_batch), str(gpus), link_text, _pair(1e3 * time for time in times),
            _pair(1e3 * time for time in hidden), _pair(work.n_batch / time for time in hidden),
            _pair(flop / time / 1e12 for time in hidden), _pair(work.n_batch / time for time in half)]


def parts_table(work: Work) -> str:
    """What --accumulate_steps does to the two limits on images per second, in float32."""
    headings = ["accumulate_steps", *(f"n_batch {n}: {limit}" for n in (work.n_batch, f"{work.n_batch} x parts")
                                      for limit in ("hidden up to", "half waiting at"))]
    allreduce = allreduce_seconds(work.parameters * FLOAT32, *PARTS_CASE)
    rows = []
    for parts in PARTS:
        times = [compute_seconds(allreduce, work.backward_share, share, parts) for share in (1, 0.5)]
        rows.append([str(parts), *(_number(n / time) for n in (work.n_batch, work.n_batch * parts) for time in times)])
    return _markdown(headings, rows)


def with_tables(document: str, texts: dict[str, str]) -> str:
    """The document with each table between its two markers; ValueError when it lacks one."""
    for name, text in texts.items():
        before, opening, rest = document.partition(OPENING.format(name=name))
        _, closing, after = rest.partition(CLOSING)
        if not (opening and closing):
            raise ValueError(f"{DOCUMENT.name} needs the lines {OPENING.format(name=name).strip()!r} and "
                             f"{CLOSING.strip()!r} around the table")
        document = before + opening + text + closing + after
    return document


def _flops(work: Work) -> tuple[int, int, int]:
    return work.forward, work.backward, work.forward + work.backward


def _pair(numbers) -> str:
    return " / ".join(map(_number, numbers))


def _number(value: float) -> str:
    """Three significant digits, without an exponent."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.{max(0, 2 - math.floor(math.log10(rounded)))}f}"


def _markdown(headings: list[str], rows: list[list]) -> str:
    return tabulate(rows, headings, tablefmt="github", disable_numparse=True)


def main(arguments: list[str] | None = None) -> None:
    """Prints or writes the tables, or measures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cost.scaling", description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--write", action="store_true", help="put the tables into docs/scaling.md")
    what.add_argument("--measure", action="store_true", help="train photos32 on one and on two CPU ranks")
    parser.add_argument("--rounds", type=int, default=5, help="of --measure: turns of each case (default: 5)")
    parser.add_argument("--updates", type=int, default=61, help="of --measure: updates of each run (default: 61)")
    options = parser.parse_args(arguments)
    if options.measure:
        print(measured_table(measure(options.rounds, options.updates)))
    elif options.write:
        DOCUMENT.write_text(with_tables(DOCUMENT.read_text(), tables()))
    else:
        print("\n\n".join(tables().values()))


if __name__ == "__main__":
    main()
