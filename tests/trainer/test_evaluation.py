import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tiny_workspace import TinyWorkspace

from trainer.errors import DataError, MissingPackageError
from trainer.evaluation import _task_scores
from trainer.job import EvaluateJob, TrainJob
from trainer.metrics import Metrics
from trainer.run import evaluate
from xtoken_core.models import ModelError


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


def test_the_number_of_examples_is_no_score(
    tmp_path: Path, tiny: TinyWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = {"alias": "arc", "acc,none": 0.5, "acc_stderr,none": "N/A", "sample_len": 2376, "brier,none": 1}
    lm_eval = ModuleType("lm_eval")
    models = ModuleType("lm_eval.models.huggingface")
    monkeypatch.setattr(lm_eval, "simple_evaluate", lambda **_: {"results": {"arc": scores}}, raising=False)
    monkeypatch.setattr(models, "HFLM", lambda **_: None, raising=False)
    monkeypatch.setitem(sys.modules, "lm_eval", lm_eval)
    monkeypatch.setitem(sys.modules, "lm_eval.models.huggingface", models)
    assert _task_scores(job_for(tiny, tmp_path, tasks=("arc",))) == {"arc": {"acc,none": 0.5, "brier,none": 1.0}}
