"""A disk that is nearly full, for tests without root."""

import contextlib
import resource


@contextlib.contextmanager
def small_disk():
    """Files may grow to 1000 bytes, as on a disk that is nearly full; no longer than needed, as it holds for pytest too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
