"""`python -m vdvae.inspect`: the command whose code is vdvae/tools/inspect.py."""

from vdvae.tools.inspect import main

if __name__ == "__main__":
    raise SystemExit(main())
