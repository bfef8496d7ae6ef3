"""A table whose rows are printed as soon as they are known; a row that fails says why, and the others follow."""

import gc
from collections.abc import Callable

import torch


class PrintedTable:
    """A Markdown table on standard output; `failures` counts the rows that failed."""

    def __init__(self, *columns: str):
        self.failures, self.width = 0, len(columns)
        print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)

    def add(self, name: str, measure: Callable[[], list[str]]) -> None:
        """Print a row: the name and the cells that `measure` returns, or the first line of the error that it raises.

        What `measure` made is freed, so that the next row finds a GPU's memory empty.
        """
        try:
            cells = measure()
        except Exception as error:  # out of memory, a compiler's: whatever it is, the other rows are wanted
            self.failures += 1
            reason = str(error).strip().partition("\n")[0].replace("|", "/")
            cells = [f"failed: {type(error).__name__}: {reason}"]
        cells += [""] * (self.width - 1 - len(cells))
        print(f"| {' | '.join([name, *cells])} |", flush=True)
        if torch.cuda.is_initialized():
            gc.collect()
            torch.cuda.empty_cache()
