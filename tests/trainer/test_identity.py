import json
from pathlib import Path
from typing import Any

import pytest
from tiny_workspace import TinyWorkspace

from storage.errors import ArtifactError
from trainer.errors import RunConflictError
from trainer.identity import claim, training_id
from trainer.job import SourceWeight, TrainJob


@pytest.fixture
def job(tmp_path: Path, tiny: TinyWorkspace) -> TrainJob:
    return tiny.job("any", [tiny.prefix_kl_teacher()]).model_copy(update={"run_folder": tmp_path / "run"})


def test_a_setting_that_was_binding_once_may_change_too(job: TrainJob) -> None:
    claim(job)
    path = job.run_folder / "run.json"
    content = json.loads(path.read_bytes())
    content["identity"]["settings"]["micro_batch_windows"] = 99
    path.write_text(json.dumps(content))
    claim(job)


def test_a_run_may_be_older_than_a_setting(job: TrainJob) -> None:
    """Then it was done as the default says, and nothing else goes on from it."""
    claim(job)
    path = job.run_folder / "run.json"
    content = json.loads(path.read_bytes())
    del content["identity"]["settings"]["projection_learning_rate"]
    path.write_text(json.dumps(content))
    claim(job)
    with pytest.raises(RunConflictError, match=r"settings.projection_learning_rate: None there, 0\.1 now"):
        claim(with_settings(job, projection_learning_rate=0.1))


def test_an_option_of_a_loss_is_a_part_of_the_run(job: TrainJob, tiny: TinyWorkspace) -> None:
    """And a run that is older than options was done without any."""
    claim(job)
    path = job.run_folder / "run.json"
    content = json.loads(path.read_bytes())
    del content["identity"]["teachers"]["0"]["options"]
    path.write_text(json.dumps(content))
    claim(job)
    few = tiny.prefix_kl_teacher(loss="p_kl", vocab_topk=5)
    with pytest.raises(RunConflictError, match=r"teachers\.0\.options.* 5"):
        claim(job.model_copy(update={"teachers": (few,)}))


def with_settings(job: TrainJob, **changes: Any) -> TrainJob:
    return job.model_copy(update={"settings": job.settings.model_copy(update=changes)})


def test_the_same_job_may_claim_again(job: TrainJob) -> None:
    assert claim(job) == claim(job)
    assert json.loads((job.run_folder / "run.json").read_bytes())["fingerprint"] == claim(job)


def test_each_training_has_an_id_of_its_own(job: TrainJob, tmp_path: Path) -> None:
    other = job.model_copy(update={"run_folder": tmp_path / "other"})
    for one in (job, other):
        claim(one)
    first = training_id(job.run_folder)
    claim(with_settings(job, keep_checkpoints=9))
    assert training_id(job.run_folder) == first != training_id(other.run_folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"checkpoint_every": 7},
        {"keep_checkpoints": 9},
        {"threads_per_worker": 3},
        {"max_failures": 0},
        {"loggers": ()},
        {"micro_batch_windows": 1},
    ],
)
def test_how_a_run_is_kept_may_change(job: TrainJob, changes: dict[str, Any]) -> None:
    assert claim(job) == claim(with_settings(job, **changes))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"steps": 7}, "settings.steps: 6 there, 7 now"),
        ({"seed": 1, "ce_weight": 0.5}, "settings.ce_weight: 0.1 there, 0.5 now; settings.seed: 0 there, 1 now"),
        ({"workers": 2}, "settings.workers: 1 there, 2 now"),
        ({"packing": True}, "settings.packing: False there, True now"),
        ({"projection_learning_rate": 0.1}, "settings.projection_learning_rate: None there, 0.1 now"),
    ],
)
def test_another_job_is_a_conflict_that_says_what_differs(job: TrainJob, changes: dict[str, Any], told: str) -> None:
    claim(job)
    with pytest.raises(RunConflictError) as error:
        claim(with_settings(job, **changes))
    assert told in str(error.value)
    assert str(job.run_folder) in str(error.value)
    assert "another name" in str(error.value)
    claim(job)  # the older run is as it was


def test_other_inputs_are_a_conflict(job: TrainJob, tiny: TinyWorkspace) -> None:
    claim(job)
    others = [
        job.model_copy(update={"teachers": ()}),
        job.model_copy(update={"teachers": (tiny.prefix_kl_teacher(weight=0.5),)}),
        job.model_copy(update={"teachers": (tiny.prefix_kl_teacher(cache=tiny.full_cache.folder),)}),
        job.model_copy(update={"student": job.student.model_copy(update={"tokenizer": tiny.root / "teacher"})}),
        job.model_copy(update={"student": job.student.model_copy(update={"max_length": 64})}),
    ]
    for other in others:
        with pytest.raises(RunConflictError):
            claim(other)


def test_other_source_weights_are_a_conflict(job: TrainJob) -> None:
    def weighted(weight: float) -> TrainJob:
        return job.model_copy(update={"source_weights": (SourceWeight(name="topics", weight=weight),)})

    assert claim(job) == claim(weighted(1.0))
    with pytest.raises(RunConflictError, match=r"source_weights.topics: None there, 2\.0 now"):
        claim(weighted(2.0))


def test_a_missing_artifact_is_named(job: TrainJob, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="nowhere holds no finished artifact"):
        claim(job.model_copy(update={"windows": tmp_path / "nowhere"}))
    assert not (job.run_folder / "run.json").exists()
