"""Whole runs through Ray, in one session; what they must equal is trained in this process without it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest
from tiny_workspace import TinyWorkspace, write_artifact

from storage.errors import ArtifactError
from trainer.errors import GpuMemoryError, RunConflictError
from trainer.job import TrainJob
from trainer.metrics import Metrics
from trainer.opened import open_job
from trainer.order import windows_of_step
from trainer.run import read_metrics, train

ROOT = Path(__file__).parents[2]
LONG = {"steps": 160, "evaluate_every": 80, "checkpoint_every": 20}

RunAlone = Callable[[TrainJob], list[Metrics]]


pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture(scope="module")
def long_job(tiny: TinyWorkspace) -> TrainJob:
    return tiny.job("long", [tiny.prefix_kl_teacher()], **LONG)


@pytest.fixture(scope="module")
def undisturbed(long_job: TrainJob, tmp_path_factory: pytest.TempPathFactory, run_alone: RunAlone) -> list[Metrics]:
    return run_alone(long_job.model_copy(update={"run_folder": tmp_path_factory.mktemp("undisturbed")}))


def numbers(records: list[Metrics]) -> list[tuple[float, ...]]:
    """What two runs of one job have in common; -1 for what was not measured."""
    parts = [
        (record.step, record.loss, record.ce, record.grad_norm, record.heldout_bits_per_byte) for record in records
    ]
    return [tuple(-1.0 if value is None else value for value in part) for part in parts]


def assert_same_curve(found: list[Metrics], expected: list[Metrics]) -> None:
    """Equal up to the order of additions, which the number of workers changes."""
    assert [record.step for record in found] == [record.step for record in expected]
    for one, other in zip(numbers(found), numbers(expected), strict=True):
        assert one == pytest.approx(other, rel=2e-3)


def wait_for_step(run_folder: Path, step: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 180
    while not any(record.step >= step for record in read_metrics(run_folder)):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "the run does not get anywhere"
        time.sleep(0.05)


def kill_all(process: subprocess.Popen) -> None:
    """kill -9 of the process and of Ray's, which would train on for the second until they notice."""
    for one in [process, *psutil.Process(process.pid).children(recursive=True)]:
        one.kill()
    process.wait()


def test_kill_and_ctrl_c_lose_only_the_steps_since_the_last_checkpoint(
    long_job: TrainJob, undisturbed: list[Metrics], tmp_path: Path
) -> None:
    """kill -9 of the processes of one call of train(), then Ctrl-C in the next call, then a call that finishes."""
    path = tmp_path / "job.json"
    path.write_text(long_job.model_dump_json())
    code = (
        "import pathlib, sys; from trainer.job import TrainJob; from trainer.run import train; "
        "train(TrainJob.model_validate_json(pathlib.Path(sys.argv[1]).read_bytes()))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ROOT)
    try:
        wait_for_step(long_job.run_folder, 30, process)
    finally:
        kill_all(process)

    seen: list[int] = []

    def interrupt(record: Metrics) -> None:
        seen.append(record.step)
        if len(seen) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(long_job, interrupt)
    assert seen[0] >= 21
    assert (seen[0] - 1) % 20 == 0

    result = train(long_job)
    assert result.resumed_from is not None
    assert result.resumed_from >= seen[-1]  # Ctrl-C loses nothing
    assert numbers(read_metrics(long_job.run_folder)) == numbers(undisturbed)
    assert (result.steps, result.reused) == (160, False)
    assert result.final_bits_per_byte == undisturbed[-1].heldout_bits_per_byte


def test_a_finished_run_is_reused_and_another_job_refused(tiny: TinyWorkspace, run_alone: RunAlone) -> None:
    job = tiny.job("one", ce_weight=1.0)
    expected = run_alone(job)
    result = train(job, lambda record: pytest.fail("a finished run trains no step"))
    assert (result.reused, result.resumed_from) == (True, None)
    assert result.best_bits_per_byte == min(r.heldout_bits_per_byte for r in expected if r.heldout_bits_per_byte)
    assert (result.best_checkpoint / "model.safetensors").is_file()
    with pytest.raises(RunConflictError, match=r"settings.learning_rate: 0.003 there, 0.1 now"):
        train(tiny.job("one", ce_weight=1.0, learning_rate=0.1))
    assert train(tiny.job("one", ce_weight=1.0, keep_checkpoints=5)).reused


def test_two_workers_train_as_one_does_even_when_one_is_killed(
    tiny: TinyWorkspace, undisturbed: list[Metrics], caplog: pytest.LogCaptureFixture
) -> None:
    job = tiny.job("two", [tiny.prefix_kl_teacher()], workers=2, **LONG)
    seen: list[int] = []
    pids: list[int] = []

    def kill_one(record: Metrics) -> None:
        pids.extend(worker_pids() if record.step == 0 else [])
        if record.step >= 30 and pids:
            os.kill(pids[0], signal.SIGKILL)
            pids.clear()
        seen.append(record.step)

    result = train(job, kill_one)
    assert_same_curve(read_metrics(job.run_folder), undisturbed)
    assert seen == list(range(161))
    assert "a worker failed and was started again" in caplog.text
    assert result.resumed_from is None


def worker_pids() -> list[int]:
    import ray
    from ray.util.state import list_actors

    address = ray.get_runtime_context().gcs_address
    actors = list_actors(address, filters=[("class_name", "=", "RayTrainWorker"), ("state", "=", "ALIVE")])
    return [actor.pid for actor in actors]


def test_an_error_in_one_worker_reaches_the_caller_as_it_is(tmp_path: Path, tiny: TinyWorkspace) -> None:
    """The second worker meets records of other ids at step 2: both end, and are not started again."""
    job = tiny.job("bad", [tiny.prefix_kl_teacher()], workers=2)
    opened = open_job(job)
    second_half = windows_of_step(0, 2, 8, opened.mixture)[4:]
    first_step = set(windows_of_step(0, 1, 8, opened.mixture).tolist())
    cached = opened.teachers[0].cache.find(opened.windows.window_ids) >= 0
    bad = next(i for i in second_half.tolist() if cached[i] and i not in first_step)
    tables = [with_other_hash(tiny.cache.table(i), int(opened.windows.window_ids[bad])) for i in range(2)]
    cache = write_artifact(tmp_path / "cache", "cache", tables).folder
    steps: list[int] = []
    bad_job = tiny.job("bad", [tiny.prefix_kl_teacher(cache=cache)], workers=2)
    with pytest.raises(ArtifactError, match="were made from other token ids"):
        train(bad_job, lambda record: steps.append(record.step))
    assert steps == [0, 1]


def test_a_gpu_out_of_memory_is_one_clear_error(tiny: TinyWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes at step 2 in the second worker, while the first one waits for its gradients."""

    def out_of_memory(config: dict[str, Any]) -> None:
        import torch

        from trainer.stepper import Stepper
        from trainer.worker import train_worker

        optimize = Stepper.optimize

        def fail(self: Stepper, step: int, prepared: Any, norms: bool) -> Any:
            if step == 2 and self._group.rank == 1:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB.")
            return optimize(self, step, prepared, norms)

        Stepper.optimize = fail  # type: ignore[method-assign]
        train_worker(config)

    monkeypatch.setattr("trainer.ray_driver.train_worker", out_of_memory)
    job = tiny.job("memory", workers=2)
    steps: list[int] = []
    with pytest.raises(GpuMemoryError, match=r"too little memory for 8 windows .* lower training\.micro_batch_windows"):
        train(job, lambda record: steps.append(record.step))
    assert steps == [0, 1]


def with_other_hash(table: pa.Table, window_id: int) -> pa.Table:
    hashes = table["ids_hash"].to_numpy().copy()
    hashes[table["window_id"].to_numpy() == window_id] ^= 1
    return table.set_column(table.schema.get_field_index("ids_hash"), "ids_hash", pa.array(hashes))
