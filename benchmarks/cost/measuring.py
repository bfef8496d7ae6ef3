"""Time, memory and operators of a callable, and what the machine's multiplications reach."""

import ctypes
import statistics
import time
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

Run = Callable[[], object]


def keep_freed_memory() -> None:
    """Has glibc keep what is freed for what comes next: else luck decides how much of a run's time is page faults."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
        libc.mallopt(-3, 2**25)  # M_MMAP_THRESHOLD, at its largest


def seconds(run: Run, device: str) -> float:
    """Wall time of one run, the device's queue included."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def alternating_seconds(runs: dict[str, Run], rounds: int, device: str) -> dict[str, list[float]]:
    """Wall times by name, one a round; every second round goes through the names backwards, so that drift cancels."""
    times = {name: [] for name in runs}
    for i in range(rounds):
        for name in list(runs) if i % 2 == 0 else list(reversed(runs)):
            times[name].append(seconds(runs[name], device))
    return times


def ratios_to(reference: str, times: dict[str, list[float]]) -> dict[str, float]:
    """By name, the median over rounds of its time divided by the reference's in the same round."""
    return {name: statistics.median(a / b for a, b in zip(column, times[reference])) for name, column in times.items()}


def peak_bytes(run: Run, device: str) -> int:
    """Most memory held above what was held before, from the allocator's events on CPU."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


class OperatorCount(TorchDispatchMode):
    """Counts the operators that PyTorch dispatches, views left out; `pointwise` are those among them."""

    def __init__(self):
        super().__init__()
        self.all = self.pointwise = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not func.is_view:
            self.all += 1
            self.pointwise += torch.Tag.pointwise in func.tags
        return func(*args, **(kwargs or {}))


def peak_flops(dtype: torch.dtype, device: str, rounds: int = 5) -> float:
    """Floating-point operations a second of the machine's matrix product, the best of several."""
    size = 8192 if device == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    run = lambda: a @ b  # noqa: E731
    run()
    return 2 * size**3 / min(seconds(run, device) for _ in range(rounds))
