"""`python -m vdvae.encode`: the command whose code is vdvae/tools/encode.py."""

import sys

from vdvae.tools.encode import main

if __name__ == "__main__":
    sys.exit(main())
