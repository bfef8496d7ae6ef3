"""`python -m vdvae.inspect`: the command whose code is vdvae/tools/inspect.py."""

import sys

from vdvae.tools.inspect import main

if __name__ == "__main__":
    sys.exit(main())
