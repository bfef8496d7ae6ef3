"""`python -m vdvae.encode`: the command whose code is vdvae/tools/encode.py."""

from vdvae.tools.encode import main

if __name__ == "__main__":
    raise SystemExit(main())
