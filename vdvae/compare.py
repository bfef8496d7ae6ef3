"""`python -m vdvae.compare`: the command whose code is vdvae/tools/compare.py."""

from vdvae.tools.compare import main

if __name__ == "__main__":
    raise SystemExit(main())
