import os

import pytest
from tiny_workspace import TinyWorkspace

from trainer.worker import worker_threads


def test_workers_share_the_cores_of_their_machine(tiny: TinyWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    job = tiny.job("unused", threads_per_worker=0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert [worker_threads(job, workers) for workers in (1, 2, 4, 9)] == [6, 3, 1, 1]
    assert worker_threads(tiny.job("unused", threads_per_worker=5), 2) == 5


def test_a_system_that_does_not_tell_which_cores_are_ours_gives_all(
    tiny: TinyWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert worker_threads(tiny.job("unused", threads_per_worker=0), 2) == 4
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert worker_threads(tiny.job("unused", threads_per_worker=0), 2) == 1
