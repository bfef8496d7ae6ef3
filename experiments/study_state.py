"""What a study finds in its folder: runs that are finished, and runs that are not the ones asked for."""

import json
from pathlib import Path

from experiments.study import Run, StudyError, hparams_of
from vdvae.settings.hparams import Hparams
from vdvae.records.log import FINISHED_FILE
from vdvae.saving.begin import MUST_STAY


def is_finished(run: Run) -> bool:
    """Whether train.py took it to its end."""
    return (run.folder / FINISHED_FILE).is_file()


def check_study(runs: list[Run], ranks: int) -> None:
    """Raises StudyError for a run that cannot be started, or whose folder holds another one or a shorter one."""
    for run in runs:
        hparams = hparams_of(run)
        _check_same(run, hparams, ranks)
        if is_finished(run):
            _check_length(run, hparams)


def _check_same(run: Run, hparams: Hparams, ranks: int) -> None:
    logged, wanted = _logged(run.folder / "log.jsonl"), {**vars(hparams), "mpi_size": ranks}
    differing = [f"{name} {logged[name]!r}, now {wanted[name]!r}"
                 for name in sorted(wanted.keys() & logged.keys() & {*MUST_STAY, "mpi_size"}) if logged[name] != wanted[name]]
    if differing:
        raise StudyError(f"{run.folder} holds a run with {'; '.join(differing)}: give the values it had, name another "
                         "--save_dir, or remove that folder")


def _logged(log: Path) -> dict:
    """Hyper-parameters at the head of a log; those before the first line that is something else or is damaged."""
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
        raise StudyError(f"{marker} must be JSON with iteration and epoch: remove it to go on with the run") from error
    limits = [hparams.num_iters is not None and iteration >= hparams.num_iters, epochs >= hparams.num_epochs]
    if not any(limits):
        raise StudyError(f"{run.folder} ended in epoch {epochs}, update {iteration}, before num_epochs "
                         f"{hparams.num_epochs}, num_iters {hparams.num_iters}: remove {marker} to go on with it, "
                         "or name another --save_dir")
