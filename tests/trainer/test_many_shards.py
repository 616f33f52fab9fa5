"""A corpus of more shards than may be open at once: what is read is the same."""

from pathlib import Path

import numpy as np
import pytest
import torch
from open_files import mapped_in
from tiny_workspace import TinyWorkspace, write_artifact

from storage.artifact import Artifact
from trainer.job import TrainJob
from trainer.opened import open_job

OPEN = 2


def in_shards_of_one_row(artifact: Artifact, folder: Path) -> Path:
    tables = [artifact.table(index) for index in range(len(artifact))]
    rows = [table.slice(row, 1).combine_chunks() for table in tables for row in range(table.num_rows)]
    return write_artifact(folder, artifact.manifest.kind, rows).folder


@pytest.fixture
def job(tiny: TinyWorkspace) -> TrainJob:
    return tiny.job("unused", [tiny.prefix_kl_teacher()])


@pytest.fixture
def scattered(tiny: TinyWorkspace, job: TrainJob, tmp_path: Path) -> TrainJob:
    """The same job, each window in a shard of its own."""
    (teacher,) = job.teachers
    parts = {
        name: in_shards_of_one_row(artifact, tmp_path / name)
        for name, artifact in (("alignments", tiny.alignments), ("cache", tiny.cache))
    }
    update = {
        "windows": in_shards_of_one_row(tiny.windows, tmp_path / "windows"),
        "student_tokens": in_shards_of_one_row(tiny.student_tokens, tmp_path / "tokens"),
        "teachers": (teacher.model_copy(update=parts),),
    }
    return job.model_copy(update=update)


def test_batches_are_the_same_with_few_shards_open(
    job: TrainJob, scattered: TrainJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = open_job(job).batches(student_rows=400)
    monkeypatch.setattr("storage.shards.OPEN_AT_ONCE", OPEN)
    opened = open_job(scattered)
    assert 0 < mapped_in(tmp_path) <= 3 * OPEN  # tokens, alignments and records
    found = opened.batches(student_rows=400)
    assert np.array_equal(opened.windows.window_ids, expected.windows.window_ids)
    for step in range(1, 4):
        ours, theirs = found.step(step, 0, 1), expected.step(step, 0, 1)
        assert ours.predictions == theirs.predictions
        for one, other in zip(ours.plans, theirs.plans, strict=True):
            assert torch.equal(one.rows.ids, other.rows.ids)
            assert [term.count for term in one.terms] == [term.count for term in other.terms]
            one.complete()
    assert mapped_in(tmp_path) <= 3 * OPEN
