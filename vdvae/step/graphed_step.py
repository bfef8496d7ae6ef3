"""The update as two CUDA graphs: thousands of kernels, launched with two calls."""

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import is_dataclass
from typing import Any

import torch
from torch import Tensor

from vdvae.model.vae import Elbo
from vdvae.step.step_result import StepResult
from vdvae.step.train_step import TrainStep

WARM_UP = 3  # updates before the recording: they make the optimizer's state and let libraries choose their kernels


class CudaGraphs:
    """Pieces of work that are recorded once each, on a stream of their own, and replayed in the order of their recordings.

    Their tensors stay where they were at the recording. The pieces share memory: what the last one returns holds until the
    first one is replayed.
    """

    def __init__(self):
        self.stream, self.pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()

    def warm_up(self, work: Callable[[], Any]) -> Any:
        """Do the work once, on the stream that will record it."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            result = work()
        torch.cuda.current_stream().wait_stream(self.stream)
        return result

    def record(self, work: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        """Record the work without doing it; returns the tensors that each replay fills, and the function that replays."""
        graph = torch.cuda.CUDAGraph()
        # thread_local: another thread pins the loader's batches, and may allocate memory meanwhile.
        with torch.cuda.graph(graph, self.pool, self.stream, capture_error_mode="thread_local"):
            return work(), graph.replay


class Recorded:
    """A piece of work that is recorded at its fourth call and replayed from then on."""

    def __init__(self, work: Callable[[], Any], graphs: CudaGraphs):
        self.work, self.graphs, self.calls = work, graphs, 0

    def __call__(self) -> Any:
        """What the work returns; from the fourth call on always the same tensors."""
        self.calls += 1
        if self.calls <= WARM_UP:
            return self.graphs.warm_up(self.work)
        if self.calls == WARM_UP + 1:
            self.result, self.replay = self.graphs.record(self.work)
        self.replay()
        return self.result


class GraphedStep:
    """A TrainStep whose two pieces are recorded at the fourth update and replayed from then on, called in the same way.

    Between the two pieces the ranks share gradients; one rank has nothing to do there. Every update, the first ones too,
    reads batch, stop and rate from the same tensors, so that a resumed run, which warms up again, computes what an
    undisturbed run does. An update overwrites the result of the one before, which is read one update late, so a copy is
    returned: two copies take turns, and a result holds until the next but one.
    """

    def __init__(self, step: TrainStep, graphs: CudaGraphs):
        self.step = step
        self.gradients, self.apply = Recorded(self._gradients, graphs), Recorded(self._apply, graphs)
        self.inputs: list[Tensor] = []  # batch, stop and rate, from the first update on
        self.scored: tuple = ()  # the Elbos of this update and the terms of all ranks, between the two pieces
        self.copies: list[StepResult] = []  # two, from the first update on

    def __call__(self, input: Tensor, target: Tensor, lr: float, stop: bool = False) -> StepResult:
        """As TrainStep. Raises ValueError for a batch of another shape than the first."""
        if not self.inputs:
            self.inputs = [input.clone(), target.clone(), *(torch.zeros((), device=input.device) for _ in ("stop", "lr"))]
        self._fill(input, target, stop, lr)
        elbos, terms = self.gradients()
        self.scored = elbos, self.step.share(terms)
        result = self.apply()
        self.copies = self.copies[::-1] or [_copied(result), _copied(result)]
        torch._foreach_copy_(list(_tensors(self.copies[0])), list(_tensors(result)))
        return self.copies[0]

    def _gradients(self) -> tuple[tuple[Elbo, ...], Tensor]:
        return self.step.gradients(*self.inputs[:3])

    def _apply(self) -> StepResult:
        return self.step.apply(*self.scored, self.inputs[3])

    def _fill(self, input: Tensor, target: Tensor, stop: bool, lr: float) -> None:
        for buffer, given in zip(self.inputs, (input, target)):
            if given.shape != buffer.shape:
                raise ValueError(f"a recorded update takes batches {list(buffer.shape)}, got {list(given.shape)}")
            buffer.copy_(given, non_blocking=True)
        for buffer, number in zip(self.inputs[2:], (stop, lr)):
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
