import math
from typing import Any

import pytest
import torch

from trainer.job import TrainingSettings
from trainer.optimizer import learning_rate, make_optimizer


def settings(**changes: Any) -> TrainingSettings:
    defaults = {"steps": 110, "warmup_steps": 10, "learning_rate": 2.0, "final_learning_rate": 0.25}
    return TrainingSettings(**defaults | changes)


@pytest.mark.parametrize(
    ("step", "expected"),
    [(1, 0.2), (5, 1.0), (10, 2.0), (60, 0.5 + 1.5 / 2), (110, 0.5), (35, 0.5 + 0.75 * (1 + math.sqrt(0.5)))],
)
def test_warm_up_then_cosine(step: int, expected: float) -> None:
    assert learning_rate(step, settings()) == pytest.approx(expected)


def test_without_warm_up_the_first_step_is_nearly_full() -> None:
    assert 1.99 < learning_rate(1, settings(warmup_steps=0)) < 2.0


def test_a_run_shorter_than_its_warm_up_only_warms_up() -> None:
    assert learning_rate(5, settings(steps=5)) == 1.0


def test_only_matrices_decay() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    model[1].bias.requires_grad_(False)
    groups = make_optimizer(model, settings(weight_decay=0.5)).param_groups
    assert [(group["weight_decay"], [p.dim() for p in group["params"]]) for group in groups] == [
        (0.5, [2]),
        (0.0, [1, 1]),
    ]
