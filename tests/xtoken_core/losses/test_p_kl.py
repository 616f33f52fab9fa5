from dataclasses import replace

import pytest
import torch
from fakes import random_logits

from xtoken_core.losses import PKLInputs, PKLSettings, column_maxima, p_kl

# Three samples, Vs = 5, Vt = 6. Student and teacher cut the same text differently; the last position predicts nothing.
STUDENT_CHUNK = torch.tensor([[-1, 0, 0, 1], [0, 1, 1, 2], [-1, 0, 1, -1]])
TEACHER_CHUNK = torch.tensor([[-1, 0, 1, 1, -1], [0, 1, 2, 2, 2], [-1, 0, 0, 1, 1]])


def some_inputs() -> PKLInputs:
    return PKLInputs(
        student_logits=random_logits(12, 5, seed=0).view(3, 4, 5),
        teacher_logits=random_logits(15, 8, seed=1).view(3, 5, 8),
        student_chunk=STUDENT_CHUNK,
        teacher_chunk=TEACHER_CHUNK,
        pair_valid=torch.tensor([[True, True, False], [True, True, True], [True, True, False]]),
        pair_is_correct=torch.tensor([[True, False, False], [True, True, False], [True, True, False]]),
        sample_mask=torch.tensor([1.0, 1.0, 1.0]),
        projection_indices=torch.tensor([[0, -1], [1, 2], [3, -1], [4, 0], [-1, -1]]),
        projection_weights=torch.tensor([[1.0, 0.0], [0.9, 0.1], [1.0, 0.0], [0.6, 0.4], [0.0, 0.0]]),
        teacher_size=6,
    )


def rows(inputs: PKLInputs, wanted: slice) -> PKLInputs:
    """The micro-batch of some samples."""
    per_sample = ("student_logits", "teacher_logits", "student_chunk", "teacher_chunk")
    per_sample += ("pair_valid", "pair_is_correct", "sample_mask")
    return replace(inputs, **{name: getattr(inputs, name)[wanted] for name in per_sample})


def test_sums_of_micro_batches_are_those_of_the_batch_when_the_columns_are_shared():
    inputs, settings = some_inputs(), PKLSettings(vocab_topk=3)
    whole = p_kl(inputs, settings, accuracy=True)
    scores = column_maxima(inputs)
    parts = [p_kl(rows(inputs, wanted), settings, scores, accuracy=True) for wanted in (slice(0, 1), slice(1, 3))]
    torch.testing.assert_close(sum(part.loss.total for part in parts), whole.loss.total)
    assert sum(part.loss.count for part in parts) == whole.loss.count
    assert sum(part.accuracy.total for part in parts) == whole.accuracy.total


def test_a_chunk_whose_only_token_is_the_first_is_not_predicted_and_does_not_count():
    inputs = rows(some_inputs(), slice(1, 2))  # chunk 0 is token 0 on both sides
    assert p_kl(inputs, PKLSettings()).loss.count == 2


def test_a_dropped_sample_gets_no_gradient_but_is_seen_by_the_accuracy():
    inputs = replace(some_inputs(), sample_mask=torch.tensor([1.0, 0.0, 1.0]))
    inputs.student_logits.requires_grad_()
    sums = p_kl(inputs, PKLSettings(), accuracy=True)
    sums.loss.total.backward()
    touched = inputs.student_logits.grad.abs().sum(dim=(1, 2)) > 0
    assert touched.tolist() == [True, False, True]
    assert (sums.loss.count, sums.accuracy.count) == (4, 6)


def test_without_any_chunk_the_loss_is_zero_and_still_has_a_gradient():
    inputs = replace(some_inputs(), student_chunk=torch.full((3, 4), -1))
    inputs.student_logits.requires_grad_()
    sums = p_kl(inputs, PKLSettings())
    sums.loss.mean.backward()
    assert sums.loss.mean == sums.loss.count == 0
    assert inputs.student_logits.grad.count_nonzero() == 0


def test_accuracy_is_counted_only_where_it_is_asked_for():
    assert p_kl(some_inputs(), PKLSettings()).accuracy is None


def test_the_published_number_of_columns_is_compared_unless_told_otherwise():
    assert PKLSettings().vocab_topk == 8192


def test_padded_teacher_columns_are_never_chosen():
    inputs = some_inputs()
    inputs.teacher_logits[..., 6:] = 100.0
    expected = p_kl(replace(inputs, teacher_logits=inputs.teacher_logits[..., :6]), PKLSettings(vocab_topk=3))
    assert torch.equal(p_kl(inputs, PKLSettings(vocab_topk=3)).loss.total, expected.loss.total)


def test_a_projection_entry_named_twice_counts_twice():
    inputs = some_inputs()
    twice = replace(
        inputs,
        projection_indices=torch.tensor([[0, 0], [1, 2], [3, -1], [4, 0], [-1, -1]]),
        projection_weights=torch.tensor([[0.5, 0.5], [0.9, 0.1], [1.0, 0.0], [0.6, 0.4], [0.0, 0.0]]),
    )
    torch.testing.assert_close(p_kl(twice, PKLSettings()).loss.total, p_kl(inputs, PKLSettings()).loss.total)


@pytest.mark.parametrize("settings", [PKLSettings(), PKLSettings(temperature=2.0, vocab_topk=4, reverse_kl=True)])
def test_the_gradient_is_that_of_the_function(settings):
    inputs = some_inputs()
    inputs = replace(
        inputs,
        teacher_logits=inputs.teacher_logits.double(),
        projection_weights=inputs.projection_weights.double(),
    )
    logits = inputs.student_logits.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: p_kl(replace(inputs, student_logits=x), settings).loss.total, logits)


@pytest.mark.parametrize("settings", [PKLSettings(), PKLSettings(temperature=2.0, vocab_topk=4, reverse_kl=True)])
def test_the_gradient_of_the_projection_is_that_of_the_function(settings):
    inputs = some_inputs()
    inputs = replace(
        inputs, student_logits=inputs.student_logits.double(), teacher_logits=inputs.teacher_logits.double()
    )
    weights = inputs.projection_weights.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda w: p_kl(replace(inputs, projection_weights=w), settings).loss.total, weights)
    p_kl(replace(inputs, projection_weights=weights), settings).loss.total.backward()
    assert weights.grad.count_nonzero() > 0
    assert weights.grad[inputs.projection_indices < 0].count_nonzero() == 0


def test_half_precision_logits_are_upcast():
    inputs = some_inputs()
    half = replace(
        inputs, student_logits=inputs.student_logits.bfloat16(), teacher_logits=inputs.teacher_logits.bfloat16()
    )
    full = replace(half, student_logits=half.student_logits.float(), teacher_logits=half.teacher_logits.float())
    found = p_kl(half, PKLSettings()).loss.total
    assert found.dtype == torch.float32
    assert torch.equal(found, p_kl(full, PKLSettings()).loss.total)
