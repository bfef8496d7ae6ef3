"""Train a VDVAE, or score one with --test_eval: `mpiexec -n 2 python train.py --hps cifar10 --sigma_param explin`."""

from vdvae.train import main

if __name__ == "__main__":
    raise SystemExit(main())
