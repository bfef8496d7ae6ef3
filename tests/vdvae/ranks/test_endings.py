"""How a rank leaves the others: after success or an agreed end it leaves the group, after an error it leaves at once.

With NCCL, leaving the group waits for collectives in which the other ranks wait for this one.
"""

import contextlib
import os
import sys
from types import SimpleNamespace

import pytest
import torch.distributed as dist

from vdvae.ranks import distributed
from vdvae.ranks.distributed import RunEnded, StartError, join_world


@pytest.fixture()
def done(monkeypatch) -> list[str]:
    """What the ranks did, in order, as rank 0 of two; nothing is real."""
    done = []

    def leave(how: str) -> None:
        done.append(how)
        raise SystemExit(how)

    store = SimpleNamespace(set=lambda *_: None, get=lambda name: b'[0, ""]' if "gpus" in name else b"host")
    comm = SimpleNamespace(rank=0, size=2, Abort=lambda code: leave(f"aborted with {code}"), allgather=lambda item: [item, item],
                           Split_type=lambda kind: SimpleNamespace(rank=0, size=2))
    monkeypatch.setitem(sys.modules, "mpi4py", SimpleNamespace(MPI=SimpleNamespace(COMM_WORLD=comm, COMM_TYPE_SHARED=0)))
    monkeypatch.setattr(distributed, "_meet", lambda *_: store)
    monkeypatch.setattr(distributed.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(dist, "rendezvous", lambda method: iter([(store,)]))
    monkeypatch.setattr(dist, "init_process_group", lambda *_, **__: done.append("joined"))
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: done.append("left the group"))
    monkeypatch.setattr(os, "_exit", lambda code: leave(f"exited with {code}"))
    return done


@pytest.mark.parametrize("launched, at_once", [
    ({"PMI_RANK": "0"}, "aborted with 1"),
    ({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "host", "MASTER_PORT": "1", "LOCAL_RANK": "0"}, "exited with 1")])
@pytest.mark.parametrize("error", [None, StartError("no data"), RunEnded("stopped"), MemoryError("no memory"), KeyboardInterrupt()])
def test_a_rank_leaves_the_group_only_when_the_others_do(done, monkeypatch, capsys, launched, at_once, error):
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    with contextlib.suppress(StartError, RunEnded, SystemExit), join_world("cpu"):
        if error:
            raise error
    agreed = error is None or isinstance(error, (StartError, RunEnded))
    assert done[:2] == ["joined", "left the group" if agreed else at_once]
    said = capsys.readouterr().err
    assert ("Traceback" in said and f"error on rank 0 of 2: {type(error).__name__}" in said) != agreed
