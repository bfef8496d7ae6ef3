"""The runs of the paper's Table 4: six variants times seeds, each with the command line of train.py that makes it."""

import sys
from dataclasses import dataclass
from pathlib import Path

from vdvae.tools.compare import TABLE_4
from vdvae.settings.hparams import Hparams, HparamsError, available_sets, load_hparams, read_set

NVAE_SCALE = "softclamp5_0.01"  # its clamp of log sigma to 5, and its floor
TRAIN = Path(__file__).resolve().parent.parent / "train.py"


class StudyError(ValueError):
    """A study that cannot be run as asked; the message names the value and what is allowed."""


@dataclass(frozen=True)
class Plan:
    """What all runs of a study share: sets, data set (None: that of the sets), folder, and further train.py flags."""

    hps: str
    dataset: str | None
    save_dir: str
    extra: tuple[str, ...] = ()
    program: Path = TRAIN


@dataclass(frozen=True)
class Run:
    """One variant with one seed; `label` is its row of the table, for example explin/prior_const1.

    With `spectral_reg` it is NVAE's variant: residual posteriors, its clamp of log sigma, its spectral penalty.
    """

    label: str
    seed: int
    plan: Plan
    spectral_reg: float = 0.0

    @property
    def desc(self) -> str:
        """Its name, for example explin_const1_s0."""
        return f"{self.label.replace('/prior_const1', '_const1').replace('/', '_')}_s{self.seed}"

    @property
    def folder(self) -> Path:
        """The folder that train.py keeps it in."""
        return Path(self.plan.save_dir) / self.desc

    @property
    def settings(self) -> dict:
        """Hyper-parameters by which it is this run and no other; neither sets nor further flags may change them."""
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
    """All runs, seed by seed: the first six already fill every row; a seventh is NVAE's, with that penalty.

    Raises StudyError for a seed given twice, and for a penalty that is not above 0.
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
    """The set in hps/ made for a data set; raises StudyError where there is none."""
    sets = {read_set(name).get("dataset", "cifar10"): name for name in available_sets()}
    if dataset not in sets:
        raise StudyError(f"--dataset {dataset}: no set in hps/ is made for it: give --hps too; "
                         f"there are sets for {', '.join(sorted(sets))}")
    return sets[dataset]


def hparams_of(run: Run) -> Hparams:
    """The run's hyper-parameters; raises StudyError for what train.py would refuse or what makes it another run."""
    try:
        hparams = load_hparams(run.arguments)
    except HparamsError as error:
        raise StudyError(f"{run.desc}: {error}") from error
    for name, value in run.settings.items():
        if getattr(hparams, name) != value:
            raise StudyError(f"{run.desc}: {name} is {getattr(hparams, name)!r}, and the study sets {value!r}: "
                             "leave it out of the sets and of the flags for train.py")
    return hparams
