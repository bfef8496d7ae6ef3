"""The report folder of `vdvae.tools.compare --out`: its files, the page's tables and pictures, and what is refused."""

import csv
import json
import math
import re
import subprocess
import sys
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest

from tests.vdvae.disks import small_disk
from vdvae.records.run_counts import TOTAL_KEYS
from vdvae.records.run_log import read_run
from vdvae.tools.compare import main, report
from vdvae.tools.report.files import report_files
from vdvae.tools.report.table4 import PAPER_TABLE_4, paper_row

ROOT = Path(__file__).resolve().parents[3]
HPARAMS = {"dataset": "photos32", "dec_blocks": "1x1,4m1,4x1", "num_variables_visualize": 1,
           "num_temperatures_visualize": 2, "prior_const1": False}
ALWAYS = {"report.html", "report.json", "report.csv", "verdict.png", "figure2.png", "skips.png"}


def train_line(step, elbo, skipped):
    line = {"type": "train_loss", "step": step, "elbo": elbo, "elbo_filtered": elbo, "grad_norm": 1.0,
            "distortion_nans": 0, "rate_nans": 0, "skipped_updates": skipped}
    totals = {"skipped_updates": skipped, "nan_updates": 0, "high_grad": skipped}
    return line | {key: totals.get(name, 0) for name, key in TOTAL_KEYS.items()}


@pytest.fixture
def write_run(tmp_path):
    """Write a run with two train lines, high gradients in block 1 and a 4 x 3 sample sheet of 4-pixel images."""
    def write(name, sigma_param="explin", seed=0, elbo=2.0, high=1, sheet=True, **hparams):
        folder = tmp_path / name
        folder.mkdir()
        hparams = HPARAMS | {"sigma_param": sigma_param, "seed": seed} | hparams
        lines = [{"type": "hparam", "key": key, "value": value} for key, value in hparams.items()]
        lines += [train_line(0, 6.0, 0), train_line(99, elbo, high), {"type": "eval_loss", "step": 100, "elbo": elbo}]
        (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        events = [{"step": 50 + n, "reason": "high_grad", "origin": "decoder", "block": 1, "resolution": 4,
                   "skipped": True} for n in range(high)]
        (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
        if sheet:
            imageio.imwrite(folder / "samples-9.png", np.zeros((16, 12, 3), np.uint8))
            imageio.imwrite(folder / "samples-100.png", np.full((16, 12, 3), 20 * len(sigma_param), np.uint8))
        return str(folder)
    return write


@pytest.fixture
def original_log(tmp_path):
    """A log that the original code wrote: no sigma_param, no totals, no events."""
    path = tmp_path / "original.jsonl"
    lines = [{"type": "hparam", "key": "seed", "value": 0}, {"type": "hparam", "key": "iters_per_print", "value": 10}]
    lines += [{"type": "train_loss", "step": step, "elbo": 2.5, "elbo_filtered": 2.5, "grad_norm": 1.0,
               "distortion_nans": 0.0, "rate_nans": 0.0, "skipped_updates": 2 * (step == 20)} for step in (0, 10, 20)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


class Page(HTMLParser):
    """Rows of cells of all tables, sources of all images, and every address that an attribute names."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.images, self.links, self.open = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag == "img":
            self.images.append(dict(attributes)["src"])
        self.links += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)


def write_report(tmp_path, *runs):
    out = tmp_path / "out"
    assert main([*runs, "--out", str(out)]) == 0
    return out, (out / "report.html").read_text()


def test_files_of_the_folder(write_run, tmp_path, capsys):
    runs = [write_run("a", elbo=math.nan), write_run("b", seed=1)]
    out, _ = write_report(tmp_path / "deep", *runs)
    assert str(out / "report.html") in capsys.readouterr().err
    assert {file.name for file in out.iterdir()} == ALWAYS | {"figure3.png"}
    for name in ("verdict.png", "figure2.png", "skips.png", "figure3.png"):
        assert imageio.imread(out / name).std() > 5  # something is drawn
    assert main([*runs, "--json"]) == 0
    assert (out / "report.json").read_text() == capsys.readouterr().out
    with (out / "report.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == runs and [row["nelbo"] for row in rows] == ["nan", "2.0"]
    assert rows[1]["high_grad"] == "1" and rows[1]["seed"] == "1"


def test_the_paper_stands_beside_ours(write_run, tmp_path):
    _, text = write_report(tmp_path, write_run("a", high=3), write_run("b", seed=1, high=5, elbo=2.2),
                           write_run("c", sigma_param="exp"))
    rows = {row[0]: row[1:] for row in Page(text).rows if row}
    assert rows["explin"] == ["2", "0, 1", "4.0 ± 1.4", "47 ± 61", "0.0 ± 0.0", "0 ± 0", "2.100 ± 0.141",
                              "2.030 ± 0.011", "4.0 ± 1.4", "3.030 ± 0.204", "valid"]
    assert rows["exp"][3] == rows["exp"][5] == rows["exp"][7] == "-"


def test_the_papers_figures():
    assert PAPER_TABLE_4["upbounded1/prior_const1"] == ((2645, 2063), (0, 0), (2.028, 0.007))
    assert PAPER_TABLE_4["vanilla/prior_const1"] == ((37, 43), (14, 16), (2.009, 0.003))
    assert paper_row("original") == paper_row("vanilla") == ((22, 9), (13, 3), (2.014, 0.009))
    assert paper_row("softplus1") is None


def test_the_page_needs_nothing_else(write_run, tmp_path):
    out, text = write_report(tmp_path, write_run("a"), write_run("b", sigma_param="vanilla"))
    page = Page(text)
    assert not page.open and page.links == page.images and len(page.images) == 5
    assert "url(" not in text and "@import" not in text and "<script" not in text
    pictures = [b64decode(source.removeprefix("data:image/png;base64,"), validate=True) for source in page.images]
    assert pictures[:3] == [(out / f"{name}.png").read_bytes() for name in ("verdict", "figure2", "skips")]
    assert pictures[3] == (tmp_path / "b" / "samples-100.png").read_bytes()  # vanilla first, as in Table 4


def test_the_page_begins_with_the_verdict_its_picture_and_the_next_command(write_run, tmp_path):
    _, text = write_report(tmp_path, write_run("a"), write_run("b", sigma_param="vanilla", high=3))
    first = text[:text.index("Table 4")]
    places = [first.index(part) for part in ("vanilla: 0 of 1 runs failed", "<img", f"-m vdvae.inspect {tmp_path / 'b'}<")]
    assert places == sorted(places)


def test_the_rows_of_a_sheet_are_named(write_run, tmp_path):
    _, text = write_report(tmp_path, write_run("a"))
    rows = re.findall("<span>(.*?)</span>", text)
    samples = ["samples, temperature 1.0", "samples, temperature 0.9"]
    assert rows == ["originals", "reconstructions, 1 of 3 latents", *samples]
    assert "samples-100.png" in text and "samples-9.png" not in text


def test_runs_without_sheets_have_no_figure3(write_run, tmp_path):
    out, text = write_report(tmp_path, write_run("a", sheet=False))
    assert {file.name for file in out.iterdir()} == ALWAYS and "Figure 3" not in text


def test_a_damaged_sheet_is_said_and_left_out(write_run, tmp_path):
    path = write_run("a")
    sheet = tmp_path / "a" / "samples-100.png"
    sheet.write_bytes(sheet.read_bytes()[:-20])
    out, text = write_report(tmp_path, path)
    assert f"{sheet} is not a whole PNG file" in text and not (out / "figure3.png").exists()


def test_warnings_notes_and_names_are_on_the_page_as_text(write_run, tmp_path):
    odd, other = write_run("<b>&", elbo=math.nan, lr=1.0), write_run("b", seed=1, lr=2.0)
    (tmp_path / "b" / "events.jsonl").unlink()
    _, text = write_report(tmp_path, odd, other)
    assert "runs differ in lr" in text and "the final loss is nan" in text and "events.jsonl is missing" in text
    assert "<b>" not in text and "&lt;b&gt;&amp;" in text


def test_the_original_codes_log(original_log, tmp_path):
    out, text = write_report(tmp_path, original_log)
    rows = {row[0]: row[1:] for row in Page(text).rows if row}
    assert rows["original"][:6] == ["1", "0", "2", "22 ± 9", "0", "13 ± 3"]
    assert {file.name for file in out.iterdir()} == ALWAYS


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("lines", [
    [{"type": "test_loss", "elbo": 2.0}],
    [train_line(0, math.nan, 0)],
    [train_line(0, 0.0, 0)],
    [train_line(5, math.inf, 3), train_line(9, 1e30, 6)],
])
def test_logs_with_little_in_them(tmp_path, lines):
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    runs = [read_run(log)]
    assert report_files(runs, report(runs)).keys() == ALWAYS


@pytest.mark.parametrize("kind", ["file", "full folder"])
def test_nothing_is_overwritten(write_run, tmp_path, capsys, kind):
    out = tmp_path / "out"
    kept = out if kind == "file" else out / "report.html"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("mine")
    assert main([write_run("a"), "--out", str(out)]) == 2
    text, error = capsys.readouterr()
    assert text == "" and error.count("\n") == 1 and str(out) in error and "not an empty folder" in error
    assert kept.read_text() == "mine"


def test_an_empty_folder_is_filled_and_a_bad_run_leaves_none(write_run, tmp_path):
    run = write_run("a")
    (tmp_path / "empty").mkdir()
    assert main([run, "--out", str(tmp_path / "empty")]) == 0 and (tmp_path / "empty" / "report.html").exists()
    assert main([run, str(tmp_path / "nowhere"), "--out", str(tmp_path / "new")]) == 2
    assert not (tmp_path / "new").exists()


def run_without_matplotlib(*arguments):
    return run_main("sys.modules['matplotlib'] = None", "0", *arguments)


def run_main(before, after, *arguments):
    """Run the command in a Python of its own; its exit code, or the value of `after` if that is 0."""
    program = f"import sys; {before}; from vdvae.tools.compare import main; sys.exit(main(sys.argv[1:]) or int({after}))"
    return subprocess.run([sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True)


def test_without_matplotlib_only_out_is_refused(write_run, tmp_path):
    run, out = write_run("a"), tmp_path / "out"
    assert run_without_matplotlib(run).returncode == 0
    refused = run_without_matplotlib(run, "--out", str(out))
    assert refused.returncode == 2 and refused.stdout == "" and not out.exists()
    assert "matplotlib" in refused.stderr and "stable-vdvae[report]" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_the_report_needs_no_torch(write_run, tmp_path):
    loaded = "'torch' in sys.modules or 'mpi4py' in sys.modules"
    assert run_main("0", loaded, write_run("a"), "--out", str(tmp_path / "out")).returncode == 0


def test_matplotlib_is_loaded_for_out_alone(write_run):
    assert run_main("0", "'matplotlib' in sys.modules", write_run("a")).returncode == 0


@pytest.mark.parametrize("there_before", [True, False])
def test_a_full_disk_leaves_nothing(write_run, tmp_path, capsys, there_before):
    out = tmp_path / "new/report"
    if there_before:
        out.mkdir(parents=True)
    run, before = write_run("one", sheet=False), set(tmp_path.rglob("*"))
    with small_disk():
        assert main([run, "--out", str(out)]) == 2
    message = capsys.readouterr().err
    assert message.startswith("compare: ") and "File too large" in message and message.count("\n") == 1
    assert set(tmp_path.rglob("*")) - before <= set((tmp_path / "one").iterdir())
