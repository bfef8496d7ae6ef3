"""The runs of the paper's Table 4: six variants times seeds, their command lines, and their state on disk."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from vdvae.records.log import FINISHED_FILE
from vdvae.saving.begin import MUST_STAY
from vdvae.settings.hparams import Hparams, HparamsError, available_sets, load_hparams, read_set
from vdvae.tools.compare import TABLE_4

NVAE_SCALE = "softclamp5_0.01"  # NVAE's clamp of log sigma to 5, and its floor of 0.01
TRAIN = Path(__file__).resolve().parents[2] / "train.py"


class StudyError(ValueError):
    """A study that cannot run; the message names the bad value and what is allowed."""


@dataclass(frozen=True)
class Plan:
    """What all runs of a study share: sets, data set (None: that of the sets), folder, and more flags for train.py."""

    hps: str
    dataset: str | None
    save_dir: str
    extra: tuple[str, ...] = ()
    program: Path = TRAIN


@dataclass(frozen=True)
class Run:
    """One variant with one seed. `label` is its row of the table, for example explin/prior_const1.

    With `spectral_reg` it is NVAE's variant: residual posteriors, clamped log sigma, and this spectral penalty.
    """

    label: str
    seed: int
    plan: Plan
    spectral_reg: float = 0.0

    @property
    def desc(self) -> str:
        """The name of the run, for example explin_const1_s0."""
        return f"{self.label.replace('/prior_const1', '_const1').replace('/', '_')}_s{self.seed}"

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.plan.save_dir) / self.desc

    @property
    def is_finished(self) -> bool:
        """Whether train.py reached the run's end."""
        return (self.folder / FINISHED_FILE).is_file()

    @property
    def settings(self) -> dict:
        """The hyper-parameters that the study sets; neither sets nor further flags may change them."""
        scale, *more = self.label.split("/")
        return {"hps": self.plan.hps, "sigma_param": scale, "prior_const1": "prior_const1" in more, "seed": self.seed,
                "desc": self.desc, "save_dir": self.plan.save_dir, "resume": "auto", "test_at_end": True,
                "posterior_sigma_param": None, "prior_sigma_param": None,
                **({"posterior": "residual", "spectral_reg": self.spectral_reg} if self.spectral_reg else {})}

    @property
    def arguments(self) -> list[str]:
        """Arguments of train.py."""
        arguments = ["--dataset", self.plan.dataset] if self.plan.dataset else []
        for name, value in self.settings.items():
            if value is True:
                arguments.append(f"--{name}")
            elif value is not None and value is not False:
                arguments += [f"--{name}", str(value)]
        return [*arguments, *self.plan.extra]

    @property
    def command(self) -> list[str]:
        """The command line of one rank, without an MPI launcher."""
        return [sys.executable, str(self.plan.program), *self.arguments]


def study(plan: Plan, seeds: list[int], spectral_reg: float | None = None) -> list[Run]:
    """All runs, seed by seed, so that the first six runs fill every row. A seventh variant is NVAE's, with `spectral_reg`.

    Raises StudyError for a seed that comes twice, and for a penalty that is not above 0.
    """
    twice = next((seed for seed in seeds if seeds.count(seed) > 1), None)
    if twice is not None:
        raise StudyError(f"--seeds has {twice} twice: each seed once")
    if spectral_reg is not None and not spectral_reg > 0:
        raise StudyError(f"--nvae is {spectral_reg}, it must be above 0")
    nvae = [] if spectral_reg is None else [(f"{NVAE_SCALE}/residual/spectral{spectral_reg:g}", spectral_reg)]
    variants = [*((label, 0.0) for label in TABLE_4), *nvae]
    return [Run(label, seed, plan, penalty) for seed in seeds for label, penalty in variants]


def set_of(dataset: str) -> str:
    """The one set in hps/ made for a data set; raises StudyError where there is none, or several."""
    made = [name for name in available_sets() if read_set(name).get("dataset", "cifar10") == dataset]
    if len(made) != 1:
        raise StudyError(f"--dataset {dataset}: sets in hps/ made for it: {', '.join(made) or 'none'}: give --hps too")
    return made[0]


def hparams_of(run: Run) -> Hparams:
    """The run's hyper-parameters; raises StudyError if train.py would refuse them or they change what the study sets."""
    try:
        hparams = load_hparams(run.arguments)
    except HparamsError as error:
        raise StudyError(f"{run.desc}: {error}") from error
    for name, value in run.settings.items():
        if getattr(hparams, name) != value:
            raise StudyError(f"{run.desc}: {name} is {getattr(hparams, name)!r}, and the study sets {value!r}: "
                             "leave it out of the sets and of the flags for train.py")
    return hparams


def check_study(runs: list[Run], ranks: int) -> None:
    """Raises StudyError for a run that cannot start, and for a folder that holds another run or a shorter one."""
    for run in runs:
        hparams = hparams_of(run)
        _check_same(run, hparams, ranks)
        if run.is_finished:
            _check_length(run, hparams)


def _check_same(run: Run, hparams: Hparams, ranks: int) -> None:
    logged, wanted = _logged(run.folder / "log.jsonl"), {**vars(hparams), "mpi_size": ranks}
    differing = [f"{name} {logged[name]!r}, now {wanted[name]!r}"
                 for name in sorted(wanted.keys() & logged.keys() & {*MUST_STAY, "mpi_size"})
                 if logged[name] != wanted[name]]
    if differing:
        raise StudyError(f"{run.folder} holds a run with {'; '.join(differing)}: give the values it had, name another "
                         "--save_dir, or remove that folder")


def _logged(log: Path) -> dict:
    """The hyper-parameters at the head of a log, up to the first line that is something else or is damaged."""
    values = {}
    if not log.is_file():
        return values
    with open(log, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                record = json.loads(line)
                values[record["key"]] = record["value"]
            except (ValueError, KeyError, TypeError):
                break
    return values


def _check_length(run: Run, hparams: Hparams) -> None:
    marker = run.folder / FINISHED_FILE
    try:
        end = json.loads(marker.read_text())
        iteration, epochs = int(end["iteration"]), int(end["epoch"]) + 1
    except (ValueError, KeyError, TypeError) as error:
        raise StudyError(f"{marker} must be JSON with iteration and epoch: remove it to continue the run") from error
    if epochs < hparams.num_epochs and (hparams.num_iters is None or iteration < hparams.num_iters):
        raise StudyError(f"{run.folder} ended in epoch {epochs}, update {iteration}, before num_epochs "
                         f"{hparams.num_epochs}, num_iters {hparams.num_iters}: remove {marker} to continue the run, "
                         "or name another --save_dir")
