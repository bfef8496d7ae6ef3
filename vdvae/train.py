"""`python -m vdvae.train`, and train.py in a clone: train a VDVAE, or score one with --test_eval."""

import sys

from vdvae.ranks.distributed import LaunchError, RunEnded, StartError, join_world, launched_rank
from vdvae.records.screen import ignore_output_errors
from vdvae.settings.hparams import HparamsError, load_hparams
from vdvae.training.run import run


def main() -> int:
    """Parse, meet the other ranks, run; exit code 2 for input that cannot be used, a RunEnded's own for an early end."""
    ignore_output_errors()
    try:
        hparams = load_hparams(sys.argv[1:])
        with join_world(hparams.device, hparams.port) as world:
            run(hparams, world)
    except (HparamsError, LaunchError, StartError) as error:
        if launched_rank() == 0:
            print(f"error: {error}", file=sys.stderr)
        return 2
    except RunEnded as end:
        if launched_rank() == 0:
            print(end, file=sys.stderr)
        return end.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
