"""Which location belongs to which scale in a KL: its value does not tell."""

import os
from collections.abc import Mapping, Sequence


def well_paired(roles: Mapping[str, str], order: Sequence[str]) -> bool:
    """Whether locations and scales (role -> parameter name) belong together by their names' beginnings and ends.

    Where names do not tell, the first location belongs to the first scale. Exactly one is true of a pairing and of the
    one with its locations exchanged.
    """
    locs, scales = (roles["loc"], roles["prior_loc"]), (roles["log_scale"], roles["prior_log_scale"])
    straight = _likeness(locs[0], scales[0]) + _likeness(locs[1], scales[1])
    crossed = _likeness(locs[0], scales[1]) + _likeness(locs[1], scales[0])
    if straight != crossed:
        return straight > crossed
    return (order.index(locs[0]) < order.index(locs[1])) == (order.index(scales[0]) < order.index(scales[1]))


def _likeness(one: str, other: str) -> int:
    """How many characters two names begin and end with in common."""
    begin = os.path.commonprefix([one, other])
    end = os.path.commonprefix([one[::-1], other[::-1]])
    return len(begin) + len(end)
