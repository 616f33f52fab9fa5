from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_workspace import TinyWorkspace

from trainer.errors import DataError, MissingPackageError, ModelError
from trainer.job import EvaluateJob, TrainJob
from trainer.metrics import Metrics
from trainer.run import evaluate


def job_for(tiny: TinyWorkspace, checkpoint: Path, **changes: Any) -> EvaluateJob:
    fields: dict[str, Any] = {
        "checkpoint": checkpoint,
        "windows": tiny.windows.folder,
        "student_tokens": tiny.student_tokens.folder,
        "student_vocabulary": tiny.root / "vocabularies" / "student",
        "max_length": 128,
    }
    return EvaluateJob(**fields | changes)


def test_a_checkpoint_scores_what_its_run_recorded(
    tiny: TinyWorkspace, run_alone: Callable[[TrainJob], list[Metrics]]
) -> None:
    job = tiny.job("evaluated", ce_weight=1.0)
    records = run_alone(job)
    found = evaluate(job_for(tiny, job.run_folder / "checkpoints" / "step-000006", batch_windows=3))
    assert found.bits_per_byte == pytest.approx(records[-1].heldout_bits_per_byte, rel=1e-6)
    assert (found.windows, found.skipped_windows, found.tasks) == (8, 0, {})
    fewer = evaluate(job_for(tiny, job.run_folder / "best", max_length=40))
    assert fewer.windows + fewer.skipped_windows == 8
    assert 0 < fewer.skipped_windows < 8
    assert fewer.predicted_bytes < found.predicted_bytes


def test_what_cannot_be_evaluated_is_told(tmp_path: Path, tiny: TinyWorkspace) -> None:
    with pytest.raises(ModelError, match="cannot open a causal language model"):
        evaluate(job_for(tiny, tmp_path))
    with pytest.raises(DataError, match="no held-out window of 2 to 3 student tokens"):
        evaluate(job_for(tiny, tmp_path, max_length=3))


def test_tasks_need_the_extra(tmp_path: Path, tiny: TinyWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.evaluation.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"pip install 'xtoken\[eval\]'"):
        evaluate(job_for(tiny, tmp_path, tasks=("arc_easy",)))
