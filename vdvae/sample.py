"""`python -m vdvae.sample`: the command whose code is vdvae/tools/sample.py."""

from vdvae.tools.sample import main

if __name__ == "__main__":
    raise SystemExit(main())
