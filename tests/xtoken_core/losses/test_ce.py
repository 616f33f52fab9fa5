import math

import pytest
import torch
from fakes import random_logits

from xtoken_core.losses import MixSettings, cross_entropy, mix, next_token_sums


def test_cross_entropy_is_minus_the_log_probability_of_each_target():
    logits = torch.tensor([[0.0, math.log(3.0)], [math.log(4.0), 0.0]])
    found = cross_entropy(logits, torch.tensor([1, 1]))
    torch.testing.assert_close(found, torch.tensor([math.log(4 / 3), math.log(5.0)]))


def test_half_precision_is_upcast_and_double_is_kept():
    logits, targets = random_logits(4, 9, seed=0), torch.tensor([0, 3, 8, 2])
    half = logits.bfloat16()
    assert torch.equal(cross_entropy(half, targets), cross_entropy(half.float(), targets))
    assert cross_entropy(logits.double(), targets).dtype == torch.float64


def test_only_kept_tokens_of_kept_samples_count():
    logits = random_logits(6, 5, seed=1).view(2, 3, 5)
    ids = torch.tensor([[4, 1, 2], [3, 0, 1]])
    sums = next_token_sums(logits, ids, torch.tensor([[1, 0, 1], [1, 1, 1]]), torch.tensor([1, 0]))
    assert sums.loss.count == sums.accuracy.count == 1
    torch.testing.assert_close(sums.loss.mean, -logits[0, 1].log_softmax(-1)[2])


def test_accuracy_counts_the_most_probable_tokens_that_came():
    ids = torch.tensor([[0, 1, 2, 3]])
    logits = torch.nn.functional.one_hot(torch.tensor([[1, 0, 3, 0]]), 4).float()
    sums = next_token_sums(logits, ids, torch.ones(1, 4), torch.ones(1))
    assert sums.accuracy.total == 2
    assert sums.accuracy.mean.item() == pytest.approx(2 / 3)


def test_no_tokens_give_zero_and_a_zero_gradient():
    logits = random_logits(3, 5, seed=2).view(1, 3, 5).requires_grad_()
    sums = next_token_sums(logits, torch.zeros(1, 3, dtype=torch.long), torch.zeros(1, 3), torch.ones(1))
    sums.loss.mean.backward()
    assert sums.loss.mean == 0
    assert logits.grad.count_nonzero() == 0


def test_dynamic_scaling_gives_distillation_the_size_of_cross_entropy_but_its_own_direction():
    kd, ce = torch.tensor(0.5, requires_grad=True), torch.tensor(2.0)
    mixed = mix(kd, ce, MixSettings(dynamic=True))
    mixed.loss.backward()
    assert mixed.loss == 4.0
    assert mixed.kd_scale == kd.grad == 4.0


@pytest.mark.parametrize("ce", [0.0, 2.0, 10.0])
@pytest.mark.parametrize("kd", [0.0, 1e-39, 1.5e-38])
def test_dynamic_scaling_of_no_distillation_leaves_cross_entropy(kd, ce):
    kd, ce = torch.tensor(kd, requires_grad=True), torch.tensor(ce)
    mixed = mix(kd, ce, MixSettings(dynamic=True))
    mixed.loss.backward()
    assert ce <= mixed.loss <= 2 * ce + 1e-6
    assert kd.grad.isfinite()


def test_dynamic_scaling_does_not_hide_a_loss_that_is_no_number():
    for broken in (torch.nan, torch.inf):
        assert not mix(torch.tensor(broken), torch.tensor(2.0), MixSettings(dynamic=True)).loss.isfinite()
