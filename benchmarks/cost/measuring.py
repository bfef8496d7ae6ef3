"""Time, memory and operators of a callable, and how fast the machine multiplies matrices."""

import statistics
import time
from collections.abc import Callable
from functools import cache

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from vdvae.step.acceleration import tf32_in_training

Run = Callable[[], object]
LONG_ENOUGH = 0.03  # seconds of a matrix product whose time says how fast the machine multiplies
LARGEST = 8192  # rows and columns of the largest product


def seconds(run: Run, device: str) -> float:
    """Wall time of one run; on a GPU until all its kernels have ended."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def alternating_seconds(runs: dict[str, Run], rounds: int, device: str) -> dict[str, list[float]]:
    """Wall times by name, one for each round. Every second round runs the names backwards, so that drift cancels."""
    times = {name: [] for name in runs}
    for i in range(rounds):
        for name in list(runs) if i % 2 == 0 else list(reversed(runs)):
            times[name].append(seconds(runs[name], device))
    return times


def ratios_to(reference: str, times: dict[str, list[float]]) -> dict[str, float]:
    """For each name the median over rounds of its time divided by the reference's time in the same round."""
    return {name: statistics.median(a / b for a, b in zip(column, times[reference])) for name, column in times.items()}


def peak_bytes(run: Run, device: str) -> int:
    """The most bytes that the run holds beyond those held before it; on a CPU counted from the allocator's events."""
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
    """Counts the operators that PyTorch dispatches, without views: `all`, and the pointwise ones among them."""

    def __init__(self):
        super().__init__()
        self.all = self.pointwise = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not func.is_view:
            self.all += 1
            self.pointwise += torch.Tag.pointwise in func.tags
        return func(*args, **(kwargs or {}))


@cache
def peak_flops(precision: str, device: str) -> float:
    """Floating-point operations a second that the machine's matrix product reaches in fp32, tf32 or bf16.

    The size doubles until one product takes LONG_ENOUGH. So a machine that computes the precision in software needs about
    a second here too.
    """
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    best, size, shortest = 0.0, 128, 0.0
    with tf32_in_training(precision):
        while shortest < LONG_ENOUGH and size <= LARGEST:
            a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
            shortest = min(seconds(lambda: a @ b, device) for _ in range(3))
            best, size = max(best, 2 * size**3 / shortest), 2 * size
    return best
