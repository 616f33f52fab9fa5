"""What the trainer's tests share: one small workspace and one Ray session, both made once."""

from collections.abc import Callable, Iterator

import pytest
import torch
from tiny_runs import KilledError
from tiny_workspace import TinyWorkspace, make_workspace

from trainer.group import Group
from trainer.job import TrainJob
from trainer.loop import run_loop
from trainer.metrics import Metrics, read_metrics
from trainer.recorder import Recorder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyWorkspace:
    """Read-only: a test that damages something copies it first."""
    return make_workspace(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """Whichever test trains first starts Ray; it ends with the tests."""
    yield
    import ray

    ray.shutdown()


@pytest.fixture(scope="session")
def alone() -> Group:
    """A group of one worker, in this process."""
    return Group(0, 1, torch.device("cpu"))


@pytest.fixture(scope="session")
def run_alone(alone: Group) -> Callable[[TrainJob], list[Metrics]]:
    """Trains a job in this process, without Ray, and returns its records."""

    def run(job: TrainJob) -> list[Metrics]:
        torch.set_num_threads(1)
        job.run_folder.mkdir(parents=True, exist_ok=True)
        run_loop(job, alone)
        return read_metrics(job.run_folder)

    return run


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes the run end right after the record of a step, once."""
    record = Recorder.record

    def arm(step: int) -> None:
        def record_and_die(self: Recorder, metrics: Metrics) -> None:
            record(self, metrics)
            if metrics.step == step:
                monkeypatch.setattr(Recorder, "record", record)
                raise KilledError

        monkeypatch.setattr(Recorder, "record", record_and_die)

    return arm
