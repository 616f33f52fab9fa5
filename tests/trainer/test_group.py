"""Two workers in two processes without Ray, against one in this process."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_workspace import TinyWorkspace, write_wide_projection

from trainer.job import TeacherInputs, TrainJob
from trainer.loggers import scalars
from trainer.metrics import Metrics, read_metrics
from trainer.opened import open_job
from trainer.run_files import checkpoint_folder

ROOT = Path(__file__).parents[2]
COLUMNS = 20  # of 600: which ones p_kl compares depends on what all ranks have
WORKER = """
import pathlib, sys
import torch
import torch.distributed as dist
from trainer.group import Group
from trainer.job import TrainJob
from trainer.loop import Training, run_loop

job, store, rank, change = sys.argv[1:]
torch.set_num_threads(1)
exec(change)
dist.init_process_group("gloo", init_method="file://" + store, rank=int(rank), world_size=2)
run_loop(TrainJob.model_validate_json(pathlib.Path(job).read_bytes()), Group(int(rank), 2, torch.device("cpu")))
"""


def run_two(job: TrainJob, folder: Path, change: str = "") -> list[subprocess.CompletedProcess]:
    """How both workers ended; `change` is run in each of them first."""
    job.run_folder.mkdir(parents=True)
    (folder / "job.json").write_text(job.model_dump_json())
    arguments = [sys.executable, "-c", WORKER, str(folder / "job.json"), str(folder / "store")]
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo"}
    running = [
        subprocess.Popen(
            [*arguments, str(rank), change],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=300) for process in running]
    finally:
        for process in running:
            process.kill()
    return [subprocess.CompletedProcess([], p.returncode, *out) for p, out in zip(running, outputs, strict=True)]


def numbers(record: Metrics) -> dict[str, float]:
    """What depends neither on the clock nor on how windows lie in rows."""
    others = ("seconds", "tokens_per_second", "packing_efficiency")
    return {name: value for name, value in scalars(record) if name not in others}


def test_two_workers_train_p_kl_as_one_does(
    tiny: TinyWorkspace, tmp_path: Path, run_alone: Callable[[TrainJob], list[Metrics]]
) -> None:
    """Loss and gradient are equal, also where the teacher has nothing for the windows of one rank."""
    settings = {"batch_windows": 4, "micro_batch_windows": 2, "steps": 8, "evaluate_every": 8}
    job = tiny.job("unused", [tiny.p_kl_teacher(vocab_topk=COLUMNS)], **settings)
    batches = open_job(job).batches(student_rows=400)
    empty = [[is_empty(batches.step(step, rank, 2).plans) for rank in range(2)] for step in range(1, 9)]
    assert [True, False] in empty or [False, True] in empty
    expected = run_alone(job.model_copy(update={"run_folder": tmp_path / "one"}))
    two = job.model_copy(update={"run_folder": tmp_path / "two"})
    for ended in run_two(two, tmp_path):
        assert ended.returncode == 0, ended.stderr
    found = read_metrics(two.run_folder)
    assert [record.step for record in found] == list(range(9))
    for one, other in zip(found, expected, strict=True):
        assert numbers(one) == pytest.approx(numbers(other), rel=1e-3)


def test_two_workers_train_packed_rows_as_one_does_without(
    tiny: TinyWorkspace, tmp_path: Path, run_alone: Callable[[TrainJob], list[Metrics]]
) -> None:
    """All losses at once, and workers with different numbers of micro-batches."""
    teachers = [tiny.prefix_kl_teacher(name="prefix"), tiny.p_kl_teacher(name="p", vocab_topk=COLUMNS)]
    job = tiny.job("unused", teachers, batch_windows=12, steps=4, evaluate_every=4)
    expected = run_alone(job.model_copy(update={"run_folder": tmp_path / "one"}))
    settings = job.settings.model_copy(update={"packing": True, "micro_batch_windows": 2})
    two = job.model_copy(update={"run_folder": tmp_path / "two", "settings": settings})
    batches = open_job(two).batches(student_rows=400)
    shares = [[batches.step(step, rank, 2) for rank in range(2)] for step in range(1, 5)]
    assert any(len(first.plans) != len(second.plans) for first, second in shares)
    for ended in run_two(two, tmp_path):
        assert ended.returncode == 0, ended.stderr
    found = read_metrics(two.run_folder)
    assert [record.step for record in found] == list(range(5))
    for one, other in zip(found, expected, strict=True):
        assert numbers(one) == pytest.approx(numbers(other), rel=1e-3)
    for record, share in zip(found[1:], shares, strict=True):
        efficiency = sum(part.tokens for part in share) / sum(part.padded for part in share)
        assert record.packing_efficiency == pytest.approx(efficiency)
        assert efficiency < 1


KEEP_PROJECTIONS = """
from safetensors.torch import save_file

end = Training._end

def keep(self):
    save_file(self.stepper.projections.state_dict(), f"{job}.rank{rank}")
    end(self)

Training._end = keep
"""


def test_two_workers_learn_a_projection_as_one_does(
    tiny: TinyWorkspace, tmp_path: Path, run_alone: Callable[[TrainJob], list[Metrics]]
) -> None:
    """Also where the teacher has nothing for one rank; both ranks have the same weights, to the last bit."""
    projection = write_wide_projection(tmp_path / "projection", tiny, slot=True)
    teacher = tiny.p_kl_teacher(projection=projection, vocab_topk=COLUMNS)
    settings = {"batch_windows": 4, "micro_batch_windows": 1, "steps": 8, "evaluate_every": 8}
    job = tiny.job("unused", [teacher], projection_learning_rate=0.05, **settings)
    batches = open_job(job).batches(student_rows=400)
    assert any(is_empty(batches.step(step, rank, 2).plans) for rank in range(2) for step in range(1, 9))
    one, two = (job.model_copy(update={"run_folder": tmp_path / name}) for name in ("one", "two"))
    expected = run_alone(one)
    for ended in run_two(two, tmp_path, KEEP_PROJECTIONS):
        assert ended.returncode == 0, ended.stderr
    for found, record in zip(read_metrics(two.run_folder), expected, strict=True):
        assert numbers(found) == pytest.approx(numbers(record), rel=1e-3)
    assert expected[8].projection_change["tiny"] > 1e-3
    first, second = (load_file(tmp_path / f"job.json.rank{rank}")["0.learnable.logits"] for rank in range(2))
    alone = load_file(checkpoint_folder(one.run_folder, 8) / "projections.safetensors")["0.learnable.logits"]
    assert torch.equal(first, second)
    # What moves a logit without any gradient to speak of is the order of additions.
    assert ((first - alone).abs() < 1e-3).float().mean() > 0.99


def all_losses(tiny: TinyWorkspace) -> list[TeacherInputs]:
    return [
        tiny.prefix_kl_teacher(name="prefix_kl"),
        tiny.prefix_kl_teacher(name="cover_kl", loss="cover_kl"),
        tiny.direct_kl_teacher(name="top-k"),
        tiny.direct_kl_teacher(name="columns", whole=1, vocab_topk=COLUMNS),
        tiny.prefix_kl_teacher(name="alm", loss="alm"),
        tiny.prefix_kl_teacher(name="uld", loss="uld"),
        tiny.p_kl_teacher(name="p_kl", vocab_topk=COLUMNS),
        tiny.gold_teacher(name="gold"),
        tiny.gold_teacher(name="h_kl", loss="h_kl"),
    ]


def averaged(tiny: TinyWorkspace) -> list[TeacherInputs]:
    return [tiny.direct_kl_teacher(name=f"t{i}", whole=i, weight=1.0 + i, vocab_topk=COLUMNS) for i in (0, 1)]


@pytest.mark.parametrize(
    ("teachers", "settings"),
    [
        (all_losses, {"combine": {"weights_by": "ce", "normalize_by_vocabulary": True}}),
        (all_losses, {"combine": {"mode": "select_teacher"}, "dynamic_scaling": True}),
        (averaged, {"combine": {"mode": "averaged_logits"}, "dynamic_scaling": True, "packing": True}),
    ],
)
def test_two_workers_learn_from_several_teachers_as_one_does(
    tiny: TinyWorkspace,
    tmp_path: Path,
    run_alone: Callable[[TrainJob], list[Metrics]],
    teachers: Callable[[TinyWorkspace], list[TeacherInputs]],
    settings: dict[str, Any],
) -> None:
    quick = {"batch_windows": 4, "micro_batch_windows": 1, "steps": 6, "evaluate_every": 2}
    job = tiny.job("unused", teachers(tiny), **quick | settings)
    whole = job.settings.model_copy(update={"micro_batch_windows": 4})
    expected = run_alone(job.model_copy(update={"run_folder": tmp_path / "one", "settings": whole}))
    two = job.model_copy(update={"run_folder": tmp_path / "two"})
    for ended in run_two(two, tmp_path):
        assert ended.returncode == 0, ended.stderr
    found = read_metrics(two.run_folder)
    assert [record.step for record in found] == list(range(7))
    for one, other in zip(found, expected, strict=True):
        assert one.selected_teacher == other.selected_teacher
        assert numbers(one) == pytest.approx(numbers(other), rel=1e-3, abs=1e-6)
    assert [bool(record.gradient_share) for record in found] == [False, False, True, False, True, False, True]
    for share in (record.gradient_share for record in found if record.gradient_share):
        assert sum(share.values()) == pytest.approx(1)


def is_empty(plans: tuple) -> bool:
    return all(plan.terms == (None,) for plan in plans)


def test_a_record_that_cannot_be_written_ends_both_workers(tiny: TinyWorkspace, tmp_path: Path) -> None:
    change = """
def fail(self, record):
    if record.step == 2:
        raise trainer.metrics.StorageError("disk full")
    self._file.append(record)

import trainer.metrics
from trainer.recorder import Recorder
Recorder.record = fail
"""
    job = tiny.job("unused").model_copy(update={"run_folder": tmp_path / "two"})
    first, second = run_two(job, tmp_path, change)
    assert "StorageError: disk full" in first.stderr
    assert "PeerFailedError: another worker failed" in second.stderr
    assert [record.step for record in read_metrics(job.run_folder)] == [0, 1]


def test_a_batch_that_cannot_be_built_on_one_worker_ends_both(tiny: TinyWorkspace, tmp_path: Path) -> None:
    change = """
def fail(self, step, rank, ranks):
    if rank == 1 and step == 2:
        raise DataError("damaged window")
    return build(self, step, rank, ranks)

from trainer.batches import BatchBuilder
from trainer.errors import DataError
build, BatchBuilder.step = BatchBuilder.step, fail
"""
    job = tiny.job("unused").model_copy(update={"run_folder": tmp_path / "two"})
    first, second = run_two(job, tmp_path, change)
    assert "PeerFailedError: another worker failed" in first.stderr
    assert "DataError: damaged window" in second.stderr
    assert [record.step for record in read_metrics(job.run_folder)] == [0, 1]
