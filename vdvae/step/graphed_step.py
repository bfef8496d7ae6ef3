"""The update as one CUDA graph: thousands of kernels, launched with one call."""

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import is_dataclass
from typing import Any

import torch
from torch import Tensor

from vdvae.step.step_result import StepResult
from vdvae.step.train_step import TrainStep

WARM_UP = 3  # updates before the recording: they make the optimizer's state and let libraries choose their kernels


class CudaGraph:
    """Work that is recorded once and replayed, on a stream of its own; its tensors stay where they were at the recording."""

    def __init__(self):
        self.stream, self.graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()

    def warm_up(self, work: Callable[[], StepResult]) -> StepResult:
        """Do the work once, on the stream that will record it."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            result = work()
        torch.cuda.current_stream().wait_stream(self.stream)
        return result

    def record(self, work: Callable[[], StepResult]) -> StepResult:
        """Record the work without doing it; returns the tensors that each replay fills."""
        # thread_local: another thread pins the loader's batches, and may allocate memory meanwhile.
        with torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode="thread_local"):
            return work()

    def replay(self) -> None:
        """Do the work on what the tensors hold now."""
        self.graph.replay()


class GraphedStep:
    """A TrainStep that is recorded at its fourth update and replayed from then on, called in the same way.

    Every update, the first ones too, reads batch, rate and stop from the same tensors, so that a resumed run, which warms
    up again, computes what an undisturbed run does. A replay overwrites the result of the one before, which is read one
    update late, so a copy is returned: two copies take turns, and a result holds until the next but one.
    """

    def __init__(self, step: TrainStep, make_graph: Callable[[], CudaGraph]):
        self.step, self.graph, self.updates = step, make_graph(), 0
        self.inputs: list[Tensor] = []  # batch, rate and stop, from the first update on
        self.results: list[StepResult] = []  # from the recording on: what each replay fills, and its two copies

    def __call__(self, input: Tensor, target: Tensor, lr: float, stop: bool = False) -> StepResult:
        """As TrainStep. Raises ValueError for a batch of another shape than the first."""
        if self.updates == 0:
            numbers = [torch.zeros((), device=input.device) for _ in ("lr", "stop")]
            self.inputs = [input.clone(), target.clone(), *numbers]
        self._fill(input, target, lr, stop)
        self.updates += 1
        if self.updates <= WARM_UP:
            return self.graph.warm_up(self._work)
        if self.updates == WARM_UP + 1:
            recorded = self.graph.record(self._work)
            self.results = [recorded, _copied(recorded), _copied(recorded)]
        self.graph.replay()
        result = self.results[1 + self.updates % 2]
        torch._foreach_copy_(list(_tensors(result)), list(_tensors(self.results[0])))
        return result

    def _work(self) -> StepResult:
        return self.step(*self.inputs)

    def _fill(self, input: Tensor, target: Tensor, lr: float, stop: bool) -> None:
        for buffer, given in zip(self.inputs, (input, target)):
            if given.shape != buffer.shape:
                raise ValueError(f"a recorded update takes batches {list(buffer.shape)}, got {list(given.shape)}")
            buffer.copy_(given, non_blocking=True)
        for buffer, number in zip(self.inputs[2:], (lr, stop)):
            buffer.fill_(number)


def _copied(item: Any) -> Any:
    """The item with a copy of every tensor that its dataclasses and tuples hold."""
    if isinstance(item, Tensor):
        return item.clone()
    if isinstance(item, tuple):
        parts = map(_copied, item)
        return type(item)(*parts) if hasattr(item, "_fields") else tuple(parts)
    if is_dataclass(item):
        same = copy(item)  # dataclasses.replace would call __init__, which computes
        vars(same).update({name: _copied(value) for name, value in vars(item).items()})
        return same
    return item


def _tensors(item: Any) -> Iterator[Tensor]:
    """The tensors that _copied copies, in one order."""
    if isinstance(item, Tensor):
        yield item
    elif isinstance(item, tuple) or is_dataclass(item):
        for part in item if isinstance(item, tuple) else vars(item).values():
            yield from _tensors(part)
