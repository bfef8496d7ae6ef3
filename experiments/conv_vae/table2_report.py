"""Table 2 in the paper's layout with the paper's figures beside ours, what the runs did, and a picture."""

import statistics
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure
from tabulate import tabulate

from experiments.conv_vae.runs import RULE
from experiments.shared.failed_runs import draw_cells, share_text

ENCODED_NAMES = ("NaiveExp", "Exp", "ExpLin", "UpBounded")
DECODED_NAMES = ("NaiveExp", "Exp", "Bounded")
# Failed runs of ten by learning rate and decoded scale, in the order of ENCODED_NAMES.
PAPER = {
    0.008: {"NaiveExp": (10, 10, 0, 0), "Exp": (10, 7, 0, 0), "Bounded": (10, 8, 0, 0)},
    0.007: {"NaiveExp": (10, 4, 0, 0), "Exp": (8, 7, 0, 0), "Bounded": (9, 3, 0, 0)},
    0.006: {"NaiveExp": (7, 5, 0, 0), "Exp": (9, 6, 0, 0), "Bounded": (3, 2, 0, 0)},
}
Results = Mapping[tuple, dict]  # (encoded, decoded, lr, seed) to the run's record


def write_report(folder: Path, results: Results, settings: dict, lrs: list[float]) -> str:
    """Write table2.md and table2.png into `folder`; returns the text of the tables."""
    text = "\n\n".join([_heading(settings), table(results, lrs), "What the runs did:", details(results, lrs)]) + "\n"
    (folder / "table2.md").write_text(text)
    draw(results, lrs).savefig(folder / "table2.png", dpi=120)
    return text


def table(results: Results, lrs: list[float]) -> str:
    """Failed runs: a row for each learning rate and encoded scale; two columns for each decoded scale, ours and the paper's."""
    rows = [[f"{lr:g}", encoded, *(text for decoded in DECODED_NAMES
                                   for text in (share_text(_runs(results, encoded, decoded, lr)), _paper(encoded, decoded, lr)))]
            for lr in lrs for encoded in ENCODED_NAMES]
    headers = ["lr", "encoded", *(text for decoded in DECODED_NAMES for text in (f"{decoded} decoder", "paper"))]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def details(results: Results, lrs: list[float]) -> str:
    """For each cell: runs with NaN and the step of the first, runs that diverged, largest loss, final losses."""
    headers = ["lr", "encoded", "decoded", "runs", "NaN", "first NaN at step (median)", "diverged", "largest loss",
               "final loss (median of whole runs)"]
    rows = [[f"{lr:g}", encoded, decoded, *_details(_runs(results, encoded, decoded, lr))]
            for lr in lrs for encoded in ENCODED_NAMES for decoded in DECODED_NAMES]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def draw(results: Results, lrs: list[float]) -> Figure:
    """A grid of encoded and decoded scales for each learning rate, coloured by the share of failed runs."""
    figure = Figure(figsize=(1.2 + 3.6 * len(lrs), 3.9), layout="constrained")
    panels = figure.subplots(1, len(lrs), squeeze=False)[0]
    for axes, lr in zip(panels, lrs):
        cells = [[_runs(results, encoded, decoded, lr) for decoded in DECODED_NAMES] for encoded in ENCODED_NAMES]
        texts = [[f"{share_text(runs)}\n({_paper(encoded, decoded, lr)})" for decoded, runs in zip(DECODED_NAMES, row)]
                 for encoded, row in zip(ENCODED_NAMES, cells)]
        draw_cells(axes, cells, texts, ENCODED_NAMES, DECODED_NAMES)
        axes.set(title=f"learning rate {lr:g}", xlabel="scale of the pixels")
    panels[0].set_ylabel("scale of the latents")
    figure.suptitle("Runs that failed (in brackets: the paper)", fontsize=11)
    return figure


def _heading(settings: dict) -> str:
    return (f"# Table 2\n\nFailed runs, {settings['steps']} steps of batch 512 from ten images of {settings['dataset']}; the "
            f"paper's are of ten runs of 20,000 steps on CIFAR-10. {RULE} Losses are nats per image.")


def _runs(results: Results, encoded: str, decoded: str, lr: float) -> list[dict]:
    return [record for key, record in results.items() if key[:3] == (encoded, decoded, lr)]


def _paper(encoded: str, decoded: str, lr: float) -> str:
    return f"{PAPER[lr][decoded][ENCODED_NAMES.index(encoded)]}/10" if lr in PAPER else "-"


def _details(runs: list[dict]) -> list[str]:
    steps = [run["first_nan"] for run in runs if run["first_nan"]]
    whole = [run["final"] for run in runs if not run["first_nan"]]
    diverged = sum(run["failed"] and not run["first_nan"] for run in runs)
    return [str(len(runs)), str(len(steps)), f"{statistics.median(steps):g}" if steps else "-", str(diverged),
            f"{max(run['largest'] for run in runs):.3g}" if runs else "-", f"{statistics.median(whole):.4g}" if whole else "-"]
