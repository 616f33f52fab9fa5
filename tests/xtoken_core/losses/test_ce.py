"""Cross-entropy in both forms."""

import math

import pytest
import torch
from fakes import random_logits

from xtoken_core.losses.form import Impl
from xtoken_core.losses.position_losses import cross_entropy
from xtoken_core.losses.reference.ce import token_nats
from xtoken_core.losses.sums import Measure

EACH_FORM = pytest.mark.parametrize("impl", ["fast", "reference"])


@EACH_FORM
def test_it_is_minus_the_log_probability_of_each_target(impl: Impl) -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [math.log(4.0), 0.0]])
    targets = torch.tensor([1, 1])
    torch.testing.assert_close(token_nats(logits, targets), torch.tensor([math.log(4 / 3), math.log(5.0)]))
    found = cross_entropy(logits, targets, impl).loss
    assert found.total.item() == pytest.approx(math.log(20 / 3))
    assert found.count == 2


@EACH_FORM
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_that_of_torch_in_value_and_gradient(impl: Impl, dtype: torch.dtype) -> None:
    logits, targets = random_logits(6, 9, seed=1).to(dtype), torch.tensor([0, 3, 8, 2, 2, 7], dtype=torch.int32)
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    found = cross_entropy(ours, targets, impl).loss.total
    expected = torch.nn.functional.cross_entropy(theirs, targets.long(), reduction="sum")
    found.backward()
    expected.backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(ours.grad, theirs.grad)


@EACH_FORM
def test_half_precision_is_upcast_and_double_is_kept(impl: Impl) -> None:
    logits, targets = random_logits(4, 9, seed=0), torch.tensor([0, 3, 8, 2])
    half = logits.bfloat16()
    found, whole = (cross_entropy(one, targets, impl).loss.total for one in (half, half.float()))
    assert torch.equal(found, whole)
    assert cross_entropy(logits.double(), targets, impl).loss.total.dtype == torch.float64


@EACH_FORM
def test_agreement_counts_the_most_probable_tokens_that_came(impl: Impl) -> None:
    logits = torch.nn.functional.one_hot(torch.tensor([1, 0, 3]), 4).float()
    found = cross_entropy(logits, torch.tensor([1, 2, 3]), impl).measures[Measure.TOP1_AGREEMENT]
    assert (found.total, found.count) == (2, 3)


def test_a_sure_and_right_prediction_keeps_its_small_loss_in_the_fast_form() -> None:
    logits = torch.tensor([[30.0, 0.0]], requires_grad=True)
    total = cross_entropy(logits, torch.tensor([0])).loss.total
    total.backward()
    assert total.item() == pytest.approx(math.exp(-30), rel=1e-5)
