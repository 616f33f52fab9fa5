from pathlib import Path

import pytest
from tiny_workspace import TinyWorkspace

from trainer.job import EvaluateJob, TrainJob


def test_paths_are_absolute_whatever_was_given(
    tiny: TinyWorkspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers run in folders of their own, where a relative path would lead elsewhere."""
    monkeypatch.chdir(tmp_path)
    fields = tiny.job("unused", [tiny.prefix_kl_teacher(cache=Path("cache"))]).model_dump()
    fields["student"] |= {"model": Path("student"), "tokenizer": Path("tokenizer")}
    job = TrainJob.model_validate(fields | {"run_folder": Path("runs/ce"), "windows": "windows"})
    assert job.teachers[0].cache == tmp_path / "cache"
    assert job.teachers[0].projection is None
    assert (job.student.model, job.student.tokenizer) == (tmp_path / "student", tmp_path / "tokenizer")
    assert (job.run_folder, job.windows) == (tmp_path / "runs" / "ce", tmp_path / "windows")
    here = Path("x")
    found = EvaluateJob(checkpoint=here, windows=here, student_tokens=here, student_vocabulary=here, max_length=4)
    assert found.checkpoint == tmp_path / "x"
