"""Where the time of a training update goes: its kernels on a GPU, its operators on a CPU.

    python -m benchmarks.cost.profile_step --n_batch 16 --precision bf16 --sigma_param explin

Takes the flags of train.py and profiles one update after its warm-up.
"""

import sys
from collections.abc import Sequence

import torch
from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEventAvg
from torch.profiler import ProfilerActivity, profile

from benchmarks.cost.measuring import seconds
from benchmarks.cost.train_step import ours
from vdvae.settings.hparams import HparamsError, load_hparams

ROWS = 30  # names with the most time


def profiled(flags: Sequence[str]) -> tuple[list[FunctionEventAvg], float]:
    """What one update runs on its device, by name, with the most time first; and the update's seconds without the profiler."""
    hparams = load_hparams(["--hps", "cifar10", *flags])
    device = hparams.device or ("cuda" if torch.cuda.is_available() else "cpu")
    shape = (hparams.n_batch, hparams.image_size, hparams.image_size, 3)
    update = ours(hparams, torch.randint(0, 256, shape, dtype=torch.uint8).to(device)).update
    taken = min(seconds(update, device) for _ in range(3))
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "cuda" else [])]) as recorded:
        seconds(update, device)
    where = DeviceType.CUDA if device == "cuda" else DeviceType.CPU
    events = [each for each in recorded.key_averages() if each.device_type == where and not each.is_user_annotation]
    return sorted(events, key=microseconds, reverse=True), taken


def microseconds(event: FunctionEventAvg) -> float:
    """Time that the device itself worked on it, all calls together."""
    on_gpu = event.device_type == DeviceType.CUDA
    return event.self_device_time_total if on_gpu else event.self_cpu_time_total


def main(flags: Sequence[str] | None = None) -> int:
    """Prints totals and a table; 2 for flags that train.py would not take either."""
    try:
        events, taken = profiled(sys.argv[1:] if flags is None else flags)
    except HparamsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    total, calls = sum(map(microseconds, events)), sum(event.count for event in events)
    kind = "kernels" if events[0].device_type == DeviceType.CUDA else "operators"
    print(f"An update takes {1e3 * taken:.1f} ms. It runs {calls:,} {kind} of {len(events)} names, {total / 1e3:.1f} ms in all.")
    print(f"\n| {kind} | calls | ms | share |\n|---|---|---|---|")
    for event in events[:ROWS]:
        name = event.key[:80].replace("|", "/")
        print(f"| {name} | {event.count:,} | {microseconds(event) / 1e3:.2f} | {microseconds(event) / total:.1%} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
