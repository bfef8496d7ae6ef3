"""Events counted by where they started and when: the rows and columns of the skip map."""

from typing import NamedTuple

from vdvae.settings.block_strings import parse_decoder_blocks
from vdvae.records.run_log import RunLog

BINS = 40
_BEFORE, _AFTER = ("encoder",), ("likelihood", "unknown")


class SkipMap(NamedTuple):
    """Counts `[rows, bins]`; bin i holds the steps from `edges[i]` up to, without the last bin's end, `edges[i + 1]`.

    Rows run in forward order: encoder, decoder blocks, likelihood, origin unknown.
    """

    rows: list[str]
    edges: list[float]
    counts: list[list[int]]

    @property
    def total(self) -> int:
        """All events counted."""
        return sum(map(sum, self.counts))


def skip_map(runs: list[RunLog], last_step: int) -> SkipMap:
    """Events of all runs from step 0 to last_step; a log without events adds its skipped updates to origin unknown."""
    resolutions = _resolutions(runs)
    rows = [*_BEFORE, *(_block_row(block, resolution) for block, resolution in sorted(resolutions.items())), *_AFTER]
    counts = [[0] * BINS for _ in rows]
    for run in runs:
        for origin, step, count in _places(run, resolutions):
            counts[rows.index(origin)][min(step * BINS // (last_step + 1), BINS - 1)] += count
    return SkipMap(rows, [bin * (last_step + 1) / BINS for bin in range(BINS + 1)], counts)


def _places(run: RunLog, resolutions: dict[int, int | None]) -> list[tuple[str, int, int]]:
    """Row, step and count of each of the run's events, or of its windows if it has no events."""
    if run.events:
        return [(_row(event, resolutions), event["step"], 1) for event in run.events]
    return [("unknown", window.step, window.counts["skipped_updates"]) for window in run.windows]


def _row(event: dict, resolutions: dict[int, int | None]) -> str:
    if event["origin"] == "decoder" and event.get("block") is not None:
        return _block_row(event["block"], resolutions[event["block"]])
    return event["origin"] if event["origin"] in _BEFORE + _AFTER else "unknown"


def _block_row(block: int, resolution: int | None) -> str:
    return f"block {block}" if resolution is None else f"block {block} ({resolution}²)"


def _resolutions(runs: list[RunLog]) -> dict[int, int | None]:
    """Decoder blocks to resolutions, from the runs' dec_blocks and from their events."""
    found = {}
    for run in runs:
        named = [(event["block"], event.get("resolution")) for event in run.events if event.get("block") is not None]
        found |= dict(enumerate(decoder_resolutions(run))) | dict(named)
    return found


def decoder_resolutions(run: RunLog) -> list[int]:
    """Resolution of each decoder block, in order; empty if the log does not tell."""
    try:
        return [block.resolution for block in parse_decoder_blocks(run.hparams.get("dec_blocks") or "")]
    except ValueError:
        return []
