"""p_kl in both forms: micro-batches, dropped samples, and the projection's gradient."""

import pytest
import torch
from fakes import random_logits

from xtoken_core.losses.chunk_losses import p_kl
from xtoken_core.losses.chunks import Chunks, chunks_of_tokens
from xtoken_core.losses.columns import column_maxima, likeliest
from xtoken_core.losses.common import ProjectionTensors
from xtoken_core.losses.divergence import Divergence, DivergenceKind
from xtoken_core.losses.fast.p_kl import ColumnEntries
from xtoken_core.losses.form import Impl
from xtoken_core.losses.settings import KLSettings
from xtoken_core.losses.sums import LossSums, Measure

EACH_FORM = pytest.mark.parametrize("impl", ["fast", "reference"])
SETTINGS = [KLSettings(), KLSettings(2.0, Divergence(DivergenceKind.REVERSE))]

# Three samples, Vs = 5, Vt = 6. Student and teacher cut the same text differently; the last position predicts nothing.
STUDENT_CHUNK = torch.tensor([[-1, 0, 0, 1], [0, 1, 1, 2], [-1, 0, 1, -1]])
TEACHER_CHUNK = torch.tensor([[-1, 0, 1, 1, -1], [0, 1, 2, 2, 2], [-1, 0, 0, 1, 1]])
PAIR_VALID = torch.tensor([[True, True, False], [True, True, True], [True, True, False]])
STUDENT = random_logits(12, 5, seed=0).view(3, 4, 5)
TEACHER = random_logits(15, 8, seed=1).view(3, 5, 8)
TEACHER_SIZE = 6
INDICES = torch.tensor([[0, -1], [1, 2], [3, -1], [4, 0], [-1, -1]])
WEIGHTS = torch.tensor([[1.0, 0.0], [0.9, 0.1], [1.0, 0.0], [0.6, 0.4], [0.0, 0.0]])
ALL = slice(0, 3)


def chunks_of(samples: slice = ALL, sample_mask: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Chunks:
    parts = (STUDENT_CHUNK, TEACHER_CHUNK, PAIR_VALID, PAIR_VALID, torch.tensor(sample_mask))
    return chunks_of_tokens(*(part[samples] for part in parts))


def columns_of(vocab_topk: int = 8192) -> torch.Tensor:
    return likeliest(column_maxima(TEACHER.flatten(0, 1), TEACHER_SIZE), vocab_topk)


def loss_of(impl: Impl, samples: slice = ALL, vocab_topk: int = 8192) -> LossSums:
    student, teacher = STUDENT[samples].flatten(0, 1), TEACHER[samples].flatten(0, 1)
    projection = ProjectionTensors(INDICES, WEIGHTS)
    return p_kl(student, teacher, chunks_of(samples), projection, columns_of(vocab_topk), KLSettings(), impl)


@EACH_FORM
def test_sums_of_micro_batches_are_those_of_the_batch_when_the_columns_are_shared(impl: Impl) -> None:
    whole = loss_of(impl, vocab_topk=3)
    parts = [loss_of(impl, samples, 3) for samples in (slice(0, 1), slice(1, 3))]
    torch.testing.assert_close(sum(part.loss.total for part in parts), whole.loss.total)
    assert sum(part.loss.count for part in parts) == whole.loss.count
    agreement = [part.measures[Measure.TOP1_AGREEMENT].total for part in (*parts, whole)]
    assert agreement[0] + agreement[1] == agreement[2]


@EACH_FORM
def test_a_chunk_whose_only_token_is_the_first_is_not_predicted_and_does_not_count(impl: Impl) -> None:
    assert loss_of(impl, slice(1, 2)).loss.count == 2  # chunk 0 is token 0 on both sides


@EACH_FORM
def test_a_dropped_sample_gets_no_gradient_but_is_seen_by_the_agreement(impl: Impl) -> None:
    logits = STUDENT.clone().requires_grad_()
    chunks, projection = chunks_of(sample_mask=(1.0, 0.0, 1.0)), ProjectionTensors(INDICES, WEIGHTS)
    sums = p_kl(logits.flatten(0, 1), TEACHER.flatten(0, 1), chunks, projection, columns_of(), KLSettings(), impl)
    sums.loss.total.backward()
    touched = logits.grad.abs().sum(dim=(1, 2)) > 0
    assert touched.tolist() == [True, False, True]
    assert (sums.loss.count, sums.measures[Measure.TOP1_AGREEMENT].count) == (4, 6)


def test_padded_teacher_columns_are_never_chosen() -> None:
    padded = TEACHER.flatten(0, 1).clone()
    padded[:, TEACHER_SIZE:] = 100.0
    assert torch.equal(likeliest(column_maxima(padded, TEACHER_SIZE), 3), columns_of(3))


@pytest.mark.parametrize("settings", SETTINGS)
def test_gradients_of_logits_and_projection_are_those_of_the_function(settings: KLSettings) -> None:
    """Of the reference: the fast form's are compared with these, as they can be taken only once."""
    logits, teacher = STUDENT.flatten(0, 1).double().requires_grad_(), TEACHER.flatten(0, 1).double()
    weights = WEIGHTS.double().requires_grad_()

    def total(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        projection = ProjectionTensors(INDICES, w)
        return p_kl(x, teacher, chunks_of(), projection, columns_of(4), settings, "reference").loss.total

    assert torch.autograd.gradcheck(total, (logits, weights))
    total(logits, weights).backward()
    assert weights.grad.count_nonzero() > 0
    assert weights.grad[INDICES < 0].count_nonzero() == 0


@EACH_FORM
def test_a_projection_entry_named_twice_counts_twice(impl: Impl) -> None:
    twice = ProjectionTensors(
        torch.tensor([[0, 0], [1, 2], [3, -1], [4, 0], [-1, -1]]),
        torch.tensor([[0.5, 0.5], [0.9, 0.1], [1.0, 0.0], [0.6, 0.4], [0.0, 0.0]]),
    )
    found = p_kl(STUDENT.flatten(0, 1), TEACHER.flatten(0, 1), chunks_of(), twice, columns_of(), KLSettings(), impl)
    torch.testing.assert_close(found.loss.total, loss_of(impl).loss.total)


@EACH_FORM
def test_half_precision_logits_are_upcast(impl: Impl) -> None:
    halves = STUDENT.flatten(0, 1).bfloat16(), TEACHER.flatten(0, 1).bfloat16()
    rest = chunks_of(), ProjectionTensors(INDICES, WEIGHTS), columns_of(), KLSettings(), impl
    found, whole = p_kl(*halves, *rest).loss.total, p_kl(*(half.float() for half in halves), *rest).loss.total
    assert found.dtype == torch.float32
    assert torch.equal(found, whole)


@pytest.mark.parametrize("columns", [[2, 0, 4], [1], [5], []])
def test_entries_project_as_the_matrix_does(columns: list[int]) -> None:
    """Also where no entry leads to a column."""
    probs = random_logits(3, 5, seed=2).softmax(dim=1).requires_grad_()
    weights = WEIGHTS.clone().requires_grad_()
    indices = torch.tensor([[0, 0], [1, 2], [3, -1], [4, 0], [-1, -1]])
    entries = ColumnEntries.of(ProjectionTensors(indices, weights), torch.tensor(columns).long(), TEACHER_SIZE)
    found = entries.project(probs[:, entries.ids])
    rows, slots = (indices >= 0).nonzero(as_tuple=True)
    matrix = torch.zeros(5, TEACHER_SIZE).index_put((rows, indices[rows, slots]), weights[rows, slots], accumulate=True)
    expected = probs @ matrix[:, columns]
    torch.testing.assert_close(found, expected)
    upstream = random_logits(3, len(columns), seed=3)
    for one, other in zip(
        torch.autograd.grad(found, (probs, weights), upstream),
        torch.autograd.grad(expected, (probs, weights), upstream),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
