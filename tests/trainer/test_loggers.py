"""The loggers; fakes of W&B and MLflow hold us to what the real ones accept."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_workspace import TinyWorkspace

from trainer.errors import LoggerError, MissingPackageError
from trainer.identity import claim
from trainer.job import TrainJob
from trainer.loggers import require_loggers
from trainer.metrics import Metrics, read_metrics
from trainer.recorder import Recorder
from trainer.run import train


def test_tensorboard_shows_the_records(tiny: TinyWorkspace, run_alone: Callable[[TrainJob], list[Metrics]]) -> None:
    job = tiny.job("shown", [tiny.prefix_kl_teacher()], loggers=("tensorboard",))
    records = run_alone(job)
    shown = EventAccumulator(str(job.run_folder / "tensorboard"))
    shown.Reload()
    assert [event.step for event in shown.Scalars("loss")] == [1, 2, 3, 4, 5, 6]
    assert shown.Scalars("loss")[2].value == pytest.approx(records[3].loss)
    assert shown.Scalars("kd/tiny")[0].value == pytest.approx(records[1].kd["tiny"])
    assert [event.step for event in shown.Scalars("heldout_bits_per_byte")] == [0, 3, 6]


class FakeWandb(ModuleType):
    """What W&B does with the calls of one run, which it knows by id: steps only grow, a finished run takes nothing."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.opened: list[dict[str, Any]] = []
        self.shown: dict[str, list[dict[str, float]]] = {}
        self.step_metrics: list[tuple[str, str | None]] = []
        self.exit_codes: list[int | None] = []

    def init(
        self,
        *,
        project: str | None = None,
        dir: str | None = None,
        id: str | None = None,
        name: str | None = None,
        config: dict[str, Any] | None = None,
        allow_val_change: bool | None = None,
        resume: str | None = None,
    ) -> "FakeWandbRun":
        assert id is not None
        assert not set("/\\#?%:") & set(id)
        self.opened.append({"project": project, "dir": dir, "id": id, "name": name, "resume": resume})
        assert self.shown.get(id) is None or (resume == "allow" and allow_val_change)
        return FakeWandbRun(self, self.shown.setdefault(id, []))


class FakeWandbRun:
    def __init__(self, wandb: FakeWandb, shown: list[dict[str, float]]) -> None:
        self.wandb, self.shown = wandb, shown

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        self.wandb.step_metrics.append((name, step_metric))

    def log(self, data: dict[str, float], step: int | None = None) -> None:
        assert step is None or step >= len(self.shown), "W&B drops steps that it has seen"
        self.shown.append(data)

    def finish(self, exit_code: int | None = None) -> None:
        self.wandb.exit_codes.append(exit_code)


class FakeMlflowError(Exception):
    pass


class FakeMlflow(ModuleType):
    """A tracking server: one run is active at a time, parameters never change, an unknown id is an error."""

    MlflowException = FakeMlflowError

    def __init__(self) -> None:
        super().__init__("mlflow")
        self.runs: dict[str, FakeMlflowRun] = {}
        self.active: FakeMlflowRun | None = None

    def start_run(self, run_id: str | None = None, *, run_name: str | None = None) -> "FakeMlflowRun":
        assert self.active is None, "a run is active already"
        if run_id is None:
            run_id = f"mlflow{len(self.runs)}"
            self.runs[run_id] = FakeMlflowRun(SimpleNamespace(run_id=run_id, run_name=run_name, status="RUNNING"))
        if run_id not in self.runs:
            raise FakeMlflowError(f"Run with id={run_id} not found")
        self.active = self.runs[run_id]
        self.active.info.status = "RUNNING"
        return self.active

    def log_params(self, params: dict[str, Any]) -> None:
        assert self.active is not None
        if any(self.active.params.get(name, value) != value for name, value in params.items()):
            raise FakeMlflowError("Changing param values is not allowed")
        self.active.params |= params

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        assert self.active is not None
        self.active.shown.append((step, metrics))

    def end_run(self, status: str = "FINISHED") -> None:
        assert self.active is not None
        assert status in ("FINISHED", "FAILED", "KILLED")
        self.active.info.status = status
        self.active = None


@dataclass
class FakeMlflowRun:
    info: SimpleNamespace
    params: dict[str, Any] = field(default_factory=dict)
    shown: list[tuple[int | None, dict[str, float]]] = field(default_factory=list)


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> FakeMlflow:
    fake = FakeMlflow()
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    return fake


Attempt = Callable[..., None]


@pytest.fixture
def attempt(tiny: TinyWorkspace, tmp_path: Path) -> Attempt:
    """Claims the folder `name` and records the steps from `first` to `last` in it, with an error after them if told."""

    def record(name: str, first: int, last: int, error: Exception | None = None, **settings: Any) -> None:
        job = tiny.job("unused", **settings).model_copy(update={"run_folder": tmp_path / "demo" / name})
        claim(job)
        with Recorder(job, first - 1) as recorder:
            for step in range(first, last + 1):
                recorder.record(Metrics(step=step, epoch=0.0, seconds=0.0, loss=float(step), kd={"a": 1.0}))
            if error is not None:
                raise error

    return record


def test_wandb_shows_a_restarted_training_as_one_run(wandb: FakeWandb, attempt: Attempt, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="lost"):
        attempt("distilled", 0, 4, OSError("lost"), loggers=("wandb",))
    attempt("distilled", 3, 6, loggers=("wandb",), keep_checkpoints=7)
    attempt("ce", 0, 2, loggers=("wandb",))
    first, second, other = wandb.opened
    assert first == second
    assert (first["project"], first["name"], first["resume"]) == ("xtoken", "demo/distilled", "allow")
    assert first["dir"] == str(tmp_path / "demo" / "distilled")
    assert other["name"] == "demo/ce"
    assert first["id"] != other["id"]
    assert [record["step"] for record in wandb.shown[first["id"]]] == [0, 1, 2, 3, 4, 3, 4, 5, 6]
    assert wandb.shown[first["id"]][-1] == {"step": 6, "epoch": 0.0, "seconds": 0.0, "loss": 6.0, "kd/a": 1.0}
    assert wandb.step_metrics == [("*", "step")] * 3
    assert wandb.exit_codes == [1, 0, 0]


def test_the_same_name_in_another_folder_is_another_run(wandb: FakeWandb, tiny: TinyWorkspace, tmp_path: Path) -> None:
    for name in ("one", "two"):
        job = tiny.job("unused", loggers=("wandb",)).model_copy(update={"run_folder": tmp_path / name / "ce"})
        claim(job)
        with Recorder(job, -1):
            pass
    assert len(wandb.shown) == 2


def test_mlflow_shows_a_restarted_training_as_one_run(mlflow: FakeMlflow, attempt: Attempt) -> None:
    with pytest.raises(OSError, match="lost"):
        attempt("distilled", 0, 4, OSError("lost"), loggers=("mlflow",))
    (run,) = mlflow.runs.values()
    assert run.info.status == "FAILED"
    attempt("distilled", 3, 6, loggers=("mlflow",), keep_checkpoints=7)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "demo/distilled")
    assert [step for step, _ in run.shown] == [0, 1, 2, 3, 4, 3, 4, 5, 6]
    assert run.shown[-1][1]["loss"] == 6.0
    assert run.params["steps"] == 6
    attempt("ce", 0, 2, loggers=("mlflow",))
    assert [run.info.run_name for run in mlflow.runs.values()] == ["demo/distilled", "demo/ce"]


def test_a_deleted_mlflow_run_is_replaced(mlflow: FakeMlflow, attempt: Attempt) -> None:
    attempt("distilled", 0, 2, loggers=("mlflow",))
    mlflow.runs.clear()
    attempt("distilled", 2, 3, loggers=("mlflow",))
    (run,) = mlflow.runs.values()
    assert [step for step, _ in run.shown] == [2, 3]


def test_a_logger_that_fails_is_told_once_and_ends_no_training(
    wandb: FakeWandb,
    attempt: Attempt,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def log(self: FakeWandbRun, data: dict[str, float], step: int | None = None) -> None:
        if data["step"] in (1, 2):
            raise ConnectionError("no route to host")
        self.shown.append(data)

    monkeypatch.setattr(FakeWandbRun, "log", log)
    attempt("distilled", 0, 4, loggers=("wandb",))
    (shown,) = wandb.shown.values()
    assert [record["step"] for record in shown] == [0, 3, 4]
    assert caplog.text.count("'wandb' fails, training goes on without what it misses: no route to host") == 1
    assert len(read_metrics(tmp_path / "demo" / "distilled")) == 5


def test_a_logger_that_cannot_be_opened_stops_a_new_run_only(
    wandb: FakeWandb, attempt: Attempt, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(**_: object) -> None:
        raise ConnectionError("no API key")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(LoggerError, match="'wandb' cannot be opened: no API key; set it up on every machine"):
        attempt("distilled", 0, 1, loggers=("wandb",))
    attempt("distilled", 1, 2, loggers=("wandb",))
    assert "'wandb' fails, training goes on" in caplog.text


def test_a_logger_that_is_not_installed_is_told_before_anything_happens(
    tiny: TinyWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.loggers.find_spec", lambda name: None if name == "wandb" else object())
    require_loggers(("tensorboard", "mlflow"))
    job = tiny.job("wandb", loggers=("tensorboard", "wandb"))
    with pytest.raises(MissingPackageError, match=r"pip install 'xtoken\[wandb\]'"):
        train(job)
    assert not job.run_folder.exists()
