import math
from typing import Any

import pytest
import torch

from trainer.job import TrainingSettings
from trainer.optimizer import learning_rate, make_optimizer, optimizer_tensors, restore_optimizer


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


def test_another_rate_has_the_same_course() -> None:
    rates = [[learning_rate(step, settings(), peak) for step in (1, 10, 60, 110)] for peak in (None, 0.5)]
    assert [rate / 4 for rate in rates[0]] == pytest.approx(rates[1])


def test_projections_have_a_rate_of_their_own_and_do_not_decay() -> None:
    model, logits = torch.nn.Linear(3, 2), torch.nn.Parameter(torch.zeros(4, 3))
    optimizer = make_optimizer(model, settings(weight_decay=0.5, projection_learning_rate=0.25), [logits])
    *student, learnt = optimizer.param_groups
    assert [group["peak"] for group in student] == [2.0, 2.0]
    assert (learnt["peak"], learnt["weight_decay"], learnt["params"]) == (0.25, 0.0, [logits])


def test_only_matrices_decay() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    model[1].bias.requires_grad_(False)
    groups = make_optimizer(model, settings(weight_decay=0.5)).param_groups
    assert [(group["weight_decay"], [p.dim() for p in group["params"]]) for group in groups] == [
        (0.5, [2]),
        (0.0, [1, 1]),
    ]


def test_the_state_comes_back_by_the_names_of_the_parameters() -> None:
    """Also where a parameter is frozen, or had no gradient yet."""
    models = [torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)) for _ in "ab"]
    models[1].load_state_dict(models[0].state_dict())
    for model in models:
        model[1].weight.requires_grad_(False)
    first, second = (make_optimizer(model, settings()) for model in models)
    train(models[0], first)
    models[1].load_state_dict(models[0].state_dict())
    tensors = {key: tensor.clone() for key, tensor in optimizer_tensors(named(models[0]), first).items()}
    assert set(tensors) == {f"{kind}/{name}" for kind in ("step", "exp_avg", "exp_avg_sq") for name in TRAINED}
    restore_optimizer(named(models[1]), second, tensors)
    for model, optimizer in zip(models, (first, second), strict=True):
        train(model, optimizer)
    for name, tensor in models[0].state_dict().items():
        assert torch.equal(models[1].state_dict()[name], tensor), name


TRAINED = ("0.weight", "0.bias", "1.bias")


def named(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return dict(model.named_parameters())


def train(model: torch.nn.Sequential, optimizer: torch.optim.Optimizer) -> None:
    """A step on the first two layers."""
    model[:2](torch.ones(4, 3)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_an_optimizer_that_never_stepped_remembers_nothing() -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = make_optimizer(model, settings())
    assert optimizer_tensors(named(model), optimizer) == {}
    restore_optimizer(named(model), optimizer, {})
    assert not optimizer.state
