"""Table 4 of Dehaene & Brossard 2021, six variants of a VDVAE: python -m experiments.table4 --dataset cifar10"""

import argparse
import shlex
import sys
from pathlib import Path

from tabulate import tabulate

from experiments.study.runner import STOPPED, Outcomes, launcher_of, run_all
from experiments.study.runs import TRAIN, Plan, Run, StudyError, check_study, hparams_of, set_of, study
from experiments.study.slurm import Job, array_script, write_script
from vdvae.records.screen import ignore_output_errors
from vdvae.settings.hparams import HparamsError
from vdvae.tools import compare

SLURM_ONLY = ("gpus", "time", "partition", "mpi")


def main(argv: list[str] | None = None, program: Path = TRAIN) -> int:
    """Run the study, list its commands or write them as a script; `program` takes train.py's arguments.

    Returns 0 when all runs are finished, 1 when some failed, 75 when a signal stopped the study, 2 for unusable input.
    """
    ignore_output_errors()
    try:
        args = _arguments(sys.argv[1:] if argv is None else argv)
        runs = study(_plan(args, program), args.seeds, args.nvae)
        if args.list:
            return _list(runs, args.ranks)
        return _write_slurm(runs, args) if args.slurm else _run(runs, args)
    except (StudyError, HparamsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _list(runs: list[Run], ranks: int) -> int:
    for run in runs:
        hparams_of(run)
    for run in runs:
        print(shlex.join([*launcher_of(ranks), *run.command]))
    return 0


def _write_slurm(runs: list[Run], args: argparse.Namespace) -> int:
    asked = {name: getattr(args, name) for name in SLURM_ONLY if getattr(args, name) is not None}
    job = Job(args.ranks, **{"gpus": args.ranks, **asked})
    check_study(runs, args.ranks)
    write_script(Path(args.slurm), array_script(runs, job, Path.cwd()))
    print(f"{args.slurm}: {len(runs)} runs. Start them with: sbatch {shlex.quote(args.slurm)}\n"
          "When they have ended, the same command without --slurm compares them and makes the runs that are missing.")
    return 0


def _run(runs: list[Run], args: argparse.Namespace) -> int:
    check_study(runs, args.ranks)
    if args.report:
        _check_report(Path(args.report))
    outcomes = run_all(runs, launcher_of(args.ranks))
    compared = 0 if outcomes.exit_code == STOPPED else _compare([run for run in runs if run.is_finished], args.report)
    _print_outcomes(outcomes)
    return outcomes.exit_code or int(compared != 0)


def _check_report(folder: Path) -> None:
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise StudyError(f"--report {folder} exists already and is not an empty folder: name another")


def _compare(finished: list[Run], report: str | None) -> int:
    if not finished:
        return 0
    print(flush=True)
    return compare.main([*(str(run.folder) for run in finished), *(["--out", report] if report else [])])


def _print_outcomes(outcomes: Outcomes) -> None:
    print("\n" + tabulate(outcomes.rows(), ["run", "state", "exit code"], tablefmt="github", disable_numparse=True))
    missing = sum(state != "finished" for state, _ in outcomes.values())
    if missing:
        print(f"\n{missing} of {len(outcomes)} runs are not finished: the same command (with a new --report) "
              "continues them", file=sys.stderr)


def _plan(args: argparse.Namespace, program: Path) -> Plan:
    if args.hps:
        hps, dataset = args.hps, args.dataset
    elif args.dataset:
        hps, dataset = set_of(args.dataset), None
    else:
        raise StudyError("give --dataset, for example cifar10, or --hps with a set, for example photos32")
    name = "-".join(Path(part.strip()).stem for part in hps.split(","))
    return Plan(hps, dataset, args.save_dir or f"./saved_models/table4-{name}", tuple(args.extra), program)


def _arguments(argv: list[str]) -> argparse.Namespace:
    """The options, and in `extra` the flags for train.py: all after `--`, and all that this program does not know."""
    own, extra = (argv[:argv.index("--")], argv[argv.index("--") + 1:]) if "--" in argv else (argv, [])
    args, unknown = _parser().parse_known_args(own)
    args.extra = [*unknown, *extra]
    _check_options(args)
    return args


def _check_options(args: argparse.Namespace) -> None:
    if args.ranks < 1:
        raise StudyError(f"--ranks is {args.ranks}, it must be at least 1")
    if args.list and args.slurm:
        raise StudyError("--list prints and --slurm writes: give one of the two")
    if args.report and (args.list or args.slurm):
        raise StudyError("--report needs finished runs: leave it out with --list and --slurm")
    alone = next((name for name in SLURM_ONLY if getattr(args, name) is not None and not args.slurm), None)
    if alone:
        raise StudyError(f"--{alone} belongs to --slurm FILE")


class _Parser(argparse.ArgumentParser):
    """Raises StudyError instead of ending the process."""

    def error(self, message: str):
        raise StudyError(f"{message}; --help lists the options")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m experiments.table4", allow_abbrev=False,
                     description="Trains the six variants of Table 4 for each seed and compares them. Further flags go to "
                                 "train.py: write them at the end, after -- if you like.")
    parser.add_argument("--dataset", help="cifar10, imagenet32, photos32, ...; without --hps, its own set is used")
    parser.add_argument("--hps", help="sets for train.py, comma-separated; without --dataset, their data set is used")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="default: 0 1 2")
    parser.add_argument("--nvae", type=float, metavar="X", help="a seventh variant, as in NVAE: residual posteriors, softly "
                        "clamped scales, --spectral_reg X")
    parser.add_argument("--ranks", type=int, default=1, metavar="N", help="ranks of each run, with mpiexec if over 1")
    parser.add_argument("--save_dir", metavar="DIR", help="folder of the runs (default: ./saved_models/table4-HPS)")
    parser.add_argument("--report", metavar="DIR", help="folder for the report of the finished runs")
    parser.add_argument("--list", action="store_true", help="print the commands, one a line, and do nothing")
    parser.add_argument("--slurm", metavar="FILE", help="write a Slurm array script, one task a run, and run nothing")
    _add_slurm_options(parser)
    return parser


def _add_slurm_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gpus", type=int, metavar="N", help="with --slurm: GPUs of each run (default: one a rank)")
    parser.add_argument("--time", help="with --slurm: time limit of a task, which then starts again (default: 24:00:00)")
    parser.add_argument("--partition", help="with --slurm: Slurm's partition")
    parser.add_argument("--mpi", help="with --slurm: srun's --mpi for more than one rank, pmi2 or pmix (default)")


if __name__ == "__main__":
    sys.exit(main())
