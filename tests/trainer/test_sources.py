from pathlib import Path

import numpy as np
import pytest
from tiny_workspace import WINDOWS_PER_SHARD, TinyWorkspace, with_sources, write_artifact

from trainer.errors import DataError
from trainer.job import SourceWeight, TrainJob
from trainer.opened import OpenedJob, open_job

HALF = WINDOWS_PER_SHARD // 2


@pytest.fixture
def job(tiny: TinyWorkspace, tmp_path: Path) -> TrainJob:
    """Of windows from three sources; those of `rare` are all held out."""
    names = [["web"] * HALF + ["books"] * HALF, ["rare"] + ["books"] * (WINDOWS_PER_SHARD - 1)]
    tables = [with_sources(tiny.windows.table(shard), names[shard]) for shard in range(2)]
    write_artifact(tmp_path / "windows", "windows", tables)
    return tiny.job("unused", batch_windows=6).model_copy(update={"windows": tmp_path / "windows"})


def weighted(job: TrainJob, **weights: float) -> OpenedJob:
    given = tuple(SourceWeight(name=name, weight=weight) for name, weight in weights.items())
    return open_job(job.model_copy(update={"source_weights": given}))


def test_a_source_is_seen_as_often_as_its_weight_says(job: TrainJob) -> None:
    opened = weighted(job, web=3, rare=2)
    assert opened.mixture.epoch_windows == 3 * 6 + 18  # 6 of 8 and 18 of 23 are training windows
    assert len(opened.heldout.windows) == 8
    batches = opened.batches(student_rows=400)
    steps = [batches.step(step, 0, 1) for step in range(1, 7)]
    seen = sorted(token for step in steps for plan in step.plans for token in plan.predictions.targets.tolist())
    is_web = np.array([opened.student.source_names[code] == "web" for code in opened.windows.sources])
    ids, _ = opened.student.tokens(opened.windows)
    expected = [ids.row(i)[1:] for i in range(len(ids)) for _ in range(3 if is_web[i] else 1)]
    assert seen == sorted(np.concatenate(expected).tolist())


def test_a_source_that_no_window_is_of_is_named(job: TrainJob) -> None:
    with pytest.raises(
        DataError, match=r"source_weights names wbe, but the windows in .*windows are of books, rare, web"
    ):
        weighted(job, wbe=2, web=2)


def test_a_corpus_whose_training_windows_all_weigh_nothing_is_refused(job: TrainJob) -> None:
    with pytest.raises(DataError, match="every source with training windows has weight 0"):
        weighted(job, web=0, books=0)


def test_a_weight_that_is_not_one(job: TrainJob) -> None:
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="weight"):
            SourceWeight(name="web", weight=weight)
    with pytest.raises(ValueError, match=r"one weight, got weights of \['web', 'web'\]"):
        TrainJob.model_validate(job.model_dump() | {"source_weights": [{"name": "web", "weight": w} for w in (1, 2)]})
