"""`python -m vdvae.inspect`: the command whose code is vdvae/tools/inspect.py."""

import signal
import sys

from vdvae.tools.inspect import main

if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):  # not on Windows
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `inspect RUN | head` ends in silence
    sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8 shows escapes
    raise SystemExit(main())
