"""Who this process is among the ranks of a run, and how they meet: mpiexec, torchrun or plain python."""

import contextlib
import gc
import json
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel

# Set in every process that an MPI launcher starts: MPICH and Intel MPI, PMIx (Open MPI, srun), MVAPICH, Cray.
MPI_RANK_VARIABLES = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK", "PALS_RANKID")
MPI_SIZE_VARIABLES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
# torchrun, PyTorchJob, SageMaker and hand-made scripts set these, PyTorch's env:// convention.
ENV_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

Prepared = TypeVar("Prepared")


class LaunchError(RuntimeError):
    """The launcher and this process disagree, or the device asked for is not there."""


class StartError(RuntimeError):
    """A run that cannot start on some or all ranks, raised on all of them together; the message says why."""


class RunEnded(RuntimeError):
    """A run that stops before its last update, raised on all ranks together; the message says why, `exit_code` is not 0."""

    exit_code = 1


@dataclass(frozen=True)
class World:
    """This process's place: `rank` of `size`, `local_rank` on its node of `local_size`, and its device."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    device: torch.device = torch.device("cpu")

    @property
    def is_main(self) -> bool:
        """True on the one rank that prints and writes files."""
        return self.rank == 0

    def gather(self, values: Tensor) -> Tensor:
        """Every rank's `values` `[K]` as `[size, K]`, on all ranks, without waiting for the device."""
        if self.size == 1:
            return values[None]
        gathered = values.new_empty(self.size, values.numel())
        dist.all_gather(list(gathered), values)
        return gathered

    def sum(self, values: Tensor) -> Tensor:
        """Sum of every rank's `values`, on all ranks."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def gather_objects(self, item: object) -> list:
        """Every rank's `item`, in rank order, on all ranks; waits for them."""
        if self.size == 1:
            return [item]
        items: list = [None] * self.size
        dist.all_gather_object(items, item)
        return items

    def agree(self, prepare: Callable[[], Prepared]) -> Prepared:
        """Run `prepare`, which must not communicate, on every rank; if it fails on any, raise one StartError on all."""
        failure, result = None, None
        try:
            result = prepare()
        except (ValueError, OSError, ModuleNotFoundError) as error:
            failure = str(error)
        failures = self.gather_objects(failure)
        if any(failures):
            raise StartError("\n".join(dict.fromkeys(filter(None, failures))))
        return result

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.size > 1:
            dist.barrier()


def share_gradients(model: nn.Module, world: World, compress: bool = False) -> nn.Module:
    """`model` with gradients averaged over the ranks while its backward pass runs; on one rank, `model` itself.

    Gradients are stored in the buckets that are sent. `compress` sends bfloat16: half the bytes, eight bits of each number.
    static_graph stays off: with it, gradients are not shared, because the model's outputs are not plain tensors
    (docs/scaling.md).
    """
    if world.size == 1:
        return model
    devices = [world.device] if world.device.type == "cuda" else None
    shared = DistributedDataParallel(model, device_ids=devices, gradient_as_bucket_view=True)
    if compress:
        shared.register_comm_hook(None, _send_bf16)
    return shared


def _send_bf16(_: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """PyTorch's hook under another name. DistributedDataParallel refuses PyTorch's own for Gloo, though Gloo sums bfloat16."""
    return bf16_compress_hook(None, bucket)


def launched_rank() -> int:
    """This process's rank by the launcher's variables, 0 without a launcher; known before the ranks have met."""
    names = ("RANK", *MPI_RANK_VARIABLES) if not _missing_variables() else MPI_RANK_VARIABLES
    return next((int(os.environ[name]) for name in names if name in os.environ), 0)


def _missing_variables() -> list[str]:
    return [name for name in ENV_VARIABLES if name not in os.environ]


@contextlib.contextmanager
def join_world(device: str | None = None, port: int = 0) -> Iterator[World]:
    """Meet the other ranks, yield this process's World, and leave them at the end.

    `device` is cpu, cuda or None: cuda where every rank has a GPU of its own, else cpu on all ranks. LaunchError, StartError
    and RunEnded are raised on all ranks together. Any other error in the block ends all ranks with exit code 1, after its
    traceback.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        context = _env_world(device)
    elif any(name in os.environ for name in MPI_RANK_VARIABLES):
        context = _mpi_world(device, port)
    elif "RANK" in os.environ or "WORLD_SIZE" in os.environ:
        context = _env_world(device)
    else:
        _check_alone()
        context = contextlib.nullcontext(World(device=_pick_device(device, World(), [_seen_gpus(1)])))
    with context as world:
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(max(1, _cores() // world.local_size))
        with _errors_on_screen(world):
            yield world


@contextlib.contextmanager
def _errors_on_screen(world: World) -> Iterator[None]:
    """Print one line for an error, before its traceback: the launcher prints much more when it ends the other ranks."""
    try:
        yield
    except (StartError, RunEnded):
        raise
    except BaseException as error:
        if world.size > 1:
            print(f"\nerror on rank {world.rank} of {world.size}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        raise


@contextlib.contextmanager
def _env_world(device: str | None) -> Iterator[World]:
    if missing := _missing_variables():
        raise LaunchError(f"{' and '.join(missing)} must be set where RANK or WORLD_SIZE is: {', '.join(ENV_VARIABLES)} make "
                          "the ranks meet; unset RANK and WORLD_SIZE for a run on one rank")
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store, *_ = next(dist.rendezvous("env://"))
    hosts = _from_all(store, "host", rank, size, socket.gethostname())
    local_rank = int(os.environ.get("LOCAL_RANK", hosts[:rank].count(hosts[rank])))
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", hosts.count(hosts[rank])))
    world = World(rank, size, local_rank, local_size)
    seen = [json.loads(each) for each in _from_all(store, "gpus", rank, size, json.dumps(_seen_gpus(local_size)))]
    world = replace(world, device=_pick_device(device, world, seen))
    dist.init_process_group(_backend(world.device), store=store, rank=rank, world_size=size)
    try:
        yield world
    except (LaunchError, StartError, RunEnded):
        _part()
        raise
    except BaseException:  # to leave the group would wait for ranks that wait for this one
        traceback.print_exc()
        sys.stdout.flush()
        os._exit(1)
    _part()


def _from_all(store: dist.Store, name: str, rank: int, size: int, value: str) -> list[str]:
    """Every rank's `value`, in rank order, on all ranks."""
    store.set(f"{name}/{rank}", value)
    return [store.get(f"{name}/{other}").decode() for other in range(size)]


def _cores() -> int:
    """CPU cores that this process may use; macOS and Windows do not tell, and count all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _mpi_world(device: str | None, port: int) -> Iterator[World]:
    from mpi4py import MPI  # starts MPI, so it is imported under an MPI launcher alone

    comm = MPI.COMM_WORLD
    _check_size(comm.size)
    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    try:
        world = World(comm.rank, comm.size, node.rank, node.size)
        world = replace(world, device=_pick_device(device, world, comm.allgather(_seen_gpus(node.size))))
        if world.size > 1:
            dist.init_process_group(_backend(world.device), store=_meet(comm, node.size, port),
                                    rank=world.rank, world_size=world.size)
        yield world
    except (LaunchError, StartError, RunEnded):
        raise
    except BaseException:
        if comm.size > 1:
            traceback.print_exc()
            sys.stdout.flush()
            time.sleep(1)  # Abort loses the output that mpiexec has not read yet
            comm.Abort(1)  # without it the other ranks wait for this one for ever
        raise
    finally:
        _part()


def _part() -> None:
    """Leave the group and end its threads; a thread that still runs when the interpreter ends aborts the process."""
    if dist.is_initialized():
        dist.destroy_process_group()
    gc.collect()  # the group lives on in reference cycles of DistributedDataParallel


def _check_alone() -> None:
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    if tasks > 1:
        raise LaunchError(f"srun started {tasks} tasks (SLURM_STEP_NUM_TASKS) without telling them of each other: "
                          "use srun --mpi=pmix or --mpi=pmi2, or mpiexec")


def _check_size(mpi_size: int) -> None:
    for name in MPI_SIZE_VARIABLES:
        started = os.environ.get(name)
        if started is not None and int(started) != mpi_size:
            raise LaunchError(f"the launcher started {started} ranks ({name}) but the MPI library that mpi4py loaded sees "
                              f"{mpi_size}: use the mpiexec that belongs to that library, or srun --mpi=pmix or pmi2")


def _meet(comm, node_size: int, port: int) -> dist.TCPStore:
    """The key-value store through which the ranks find each other; rank 0 serves it. LaunchError on all for a port in use."""
    store = None
    if comm.rank == 0:
        host = "127.0.0.1" if node_size == comm.size else socket.getfqdn()
        with contextlib.suppress(RuntimeError):
            store = dist.TCPStore(host, port, is_master=True, wait_for_workers=False)
    address = comm.bcast((host, store.port) if store else None)
    if address is None:
        raise LaunchError(f"--port {port} is in use or not allowed: give another one, or leave --port out for a free one")
    return store or dist.TCPStore(*address, is_master=False)


def _seen_gpus(local_size: int) -> tuple[int, str]:
    """How many GPUs this process sees beyond one for each rank of its node, and the UUID of a GPU that is all it sees."""
    count = torch.cuda.device_count()
    return count - local_size, str(torch.cuda.get_device_properties(0).uuid) if count == 1 else ""


def _pick_device(wanted: str | None, world: World, seen: list[tuple[int, str]]) -> torch.device:
    """The device of this rank; `seen`, _seen_gpus of every rank, makes all ranks choose alike.

    Ranks that see one GPU each, all different ones (Slurm's --gpus-per-task), take those. Raises LaunchError where cuda is
    wanted and a rank would have no GPU of its own.
    """
    uuids = {uuid for _, uuid in seen}
    apart = "" not in uuids and len(uuids) == world.size
    spare = 0 if apart else min(number for number, _ in seen)
    few = f"a node's ranks exceed the GPUs that PyTorch sees there by {-spare}"
    if wanted == "cuda" and spare < 0:
        raise LaunchError(f"--device cuda: {few}; start at most one rank a GPU, or use --device cpu")
    if wanted == "cpu" or spare < 0:
        if wanted is None and world.is_main and torch.cuda.device_count():
            print(f"note: {few}, so all ranks run on the CPU", file=sys.stderr)
        return torch.device("cpu")
    device = torch.device("cuda", 0 if apart else world.local_rank)
    torch.cuda.set_device(device)
    return device


def _backend(device: torch.device) -> str:
    return "nccl" if device.type == "cuda" else "gloo"
