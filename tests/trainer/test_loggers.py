from collections.abc import Callable

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_workspace import TinyWorkspace

from trainer.errors import MissingPackageError
from trainer.job import TrainJob
from trainer.loggers import require_loggers
from trainer.metrics import Metrics
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


def test_a_logger_that_is_not_installed_is_told_before_anything_happens(
    tiny: TinyWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.loggers.find_spec", lambda name: None if name == "wandb" else object())
    require_loggers(("tensorboard", "mlflow"))
    job = tiny.job("wandb", loggers=("tensorboard", "wandb"))
    with pytest.raises(MissingPackageError, match=r"pip install 'xtoken\[wandb\]'"):
        train(job)
    assert not job.run_folder.exists()
