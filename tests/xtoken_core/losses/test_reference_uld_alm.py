"""uld and alm: what they promise, on random logits, and alm at probabilities of almost zero and one."""

import math

import pytest
import torch
from fakes import random_logits, reproducible
from hypothesis import given
from hypothesis import strategies as st

from xtoken_core.losses.chunks import ChunkRows, Chunks
from xtoken_core.losses.reference import alm, uld, uld_top_k
from xtoken_core.losses.reference.alm import bernoulli_kl, log1mexp, target_logprob
from xtoken_core.losses.settings import LossSettings
from xtoken_core.losses.topk import TopK

SEEDS = st.integers(0, 2**31)
SIZES = st.integers(1, 8)
ROWS = 3


def top_k_of(logits: torch.Tensor, k: int) -> TopK:
    ranked = logits.log_softmax(dim=-1).sort(dim=-1, descending=True)
    return TopK(ranked.indices[:, :k], ranked.values[:, :k], ranked.values[:, k:].logsumexp(dim=-1))


def total(student: torch.Tensor, teacher: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    return uld(student, teacher, LossSettings(temperature)).loss.total


@reproducible
@given(SEEDS, SIZES, SIZES, st.sampled_from([0.5, 1.0, 3.0]))
def test_uld_is_that_of_brute_force_and_symmetric(seed, student_size, teacher_size, temperature):
    student = random_logits(ROWS, student_size, seed).double()
    teacher = random_logits(ROWS, teacher_size, seed + 1).double()
    expected = 0.0
    for row in range(ROWS):
        sides = [sorted((side[row] / temperature).softmax(0).tolist(), reverse=True) for side in (student, teacher)]
        ranks = max(student_size, teacher_size)
        p, q = (side + [0.0] * (ranks - len(side)) for side in sides)
        expected += temperature**2 * sum(abs(a - b) for a, b in zip(p, q, strict=True))
    assert total(student, teacher, temperature).item() == pytest.approx(expected)
    assert total(teacher, student, temperature).item() == pytest.approx(expected)


@reproducible
@given(SEEDS, SIZES)
def test_uld_is_zero_whatever_the_order_of_equal_probabilities_and_at_most_two(seed, size):
    logits = random_logits(ROWS, size, seed)
    assert total(logits, logits.flip(1)).item() == pytest.approx(0, abs=1e-6)
    assert total(logits, random_logits(ROWS, 5, seed + 1)) <= 2 * ROWS + 1e-5


@reproducible
@given(SEEDS, SIZES, SIZES, st.integers(1, 8))
def test_uld_of_a_record_is_a_lower_bound_and_exact_if_it_stores_all_ranks(seed, student_size, teacher_size, k):
    student = random_logits(ROWS, student_size, seed).double()
    teacher = random_logits(ROWS, teacher_size, seed + 1).double()
    k = min(k, teacher_size)
    found = uld_top_k(student, top_k_of(teacher, k), LossSettings()).loss.total
    assert found <= total(student, teacher) + 1e-12
    if k == max(student_size, teacher_size):
        torch.testing.assert_close(found, total(student, teacher))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_gradients_of_uld_are_those_of_the_functions(temperature):
    student, teacher = random_logits(2, 5, 0).double().requires_grad_(), random_logits(2, 7, 1).double()
    settings, record = LossSettings(temperature), top_k_of(teacher, 3)
    assert torch.autograd.gradcheck(lambda x: uld(x, teacher, settings).loss.total, student)
    assert torch.autograd.gradcheck(lambda x: uld_top_k(x, record, settings).loss.total, student)


def test_tokens_without_probability_leave_the_gradient_of_uld_finite():
    logits = torch.tensor([[1.0, -torch.inf, 0.5, -torch.inf]], requires_grad=True)
    loss = uld_top_k(logits, top_k_of(random_logits(1, 5, 0), 2), LossSettings()).loss.total
    loss.backward()
    assert logits.grad.isfinite().all()
    assert logits.grad.count_nonzero() == 2


def chunks_of(student: list[int], teacher: list[int], exact: list[bool], counted: list[bool]) -> Chunks:
    """Row i of a side is in the chunk that the list names there."""
    sides = [ChunkRows(torch.arange(len(rows)), torch.tensor(rows)) for rows in (student, teacher)]
    return Chunks(sides[0], sides[1], torch.tensor(counted), torch.tensor(counted), torch.tensor(exact))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_alm_is_that_of_brute_force(temperature):
    logits, targets = random_logits(5, 6, 0).double(), torch.tensor([0, 3, 5, 1, 2])
    teacher = torch.tensor([-0.2, -1.0, -0.4, -3.0], dtype=torch.float64)
    chunks = chunks_of([0, 0, 1, 2, 3], [0, 1, 2, 3], [True, False, True, True], [True, True, True, False])
    found = alm(logits, targets, chunks, teacher, LossSettings(temperature))
    own = logits.log_softmax(dim=-1)[torch.arange(5), targets].tolist()
    expected = 0.0
    for t, s in ((-0.2, own[0] + own[1]), (-0.4, own[3])):
        p, q = math.exp(t / temperature), math.exp(s / temperature)
        expected += p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    assert found.loss.total.item() == pytest.approx(expected)
    assert found.loss.count == 2


def test_the_gradient_of_alm_is_that_of_the_function():
    logits, targets = random_logits(4, 5, 0).double().requires_grad_(), torch.tensor([0, 3, 4, 1])
    chunks = chunks_of([0, 0, 1, 2], [0, 1, 2], [True] * 3, [True] * 3)
    teacher = torch.tensor([-0.2, 0.0, -torch.inf], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: alm(x, targets, chunks, teacher, LossSettings(2.0)).loss.total, logits)


LOG_PROBS = st.floats(-300, 0) | st.floats(-1e-6, 0) | st.just(-torch.inf)


@reproducible
@given(LOG_PROBS, LOG_PROBS)
def test_the_divergence_of_two_events_is_never_negative_nor_nan_and_its_gradient_is_finite(teacher, student):
    student = torch.tensor([student], requires_grad=True)
    found = bernoulli_kl(torch.tensor([teacher]), student)
    found.sum().backward()
    assert found >= -1e-6
    assert student.grad.isfinite().all()


@reproducible
@given(st.floats(-300, -1e-30) | st.just(-torch.inf))
def test_the_divergence_of_equal_events_is_zero(log_prob):
    both = torch.tensor([log_prob], dtype=torch.float64)
    assert bernoulli_kl(both, both).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("x", "expected"),
    [(-1e-30, math.log(1e-30)), (-1.0, math.log(1 - math.exp(-1))), (-50.0, -math.exp(-50)), (-math.inf, 0.0)],
)
def test_log1mexp_keeps_its_digits_at_both_ends(x, expected):
    found = log1mexp(torch.tensor([x], dtype=torch.float64))
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_a_student_that_is_almost_certain_still_has_a_probability_of_something_else_and_learns_from_it():
    logits = torch.tensor([[40.0, 0.0, 0.0]], requires_grad=True)  # 1 - P is 8.5e-18: log_softmax says 0
    assert logits.log_softmax(dim=-1)[0, 0] == 0
    own = target_logprob(logits, torch.tensor([0]))
    bernoulli_kl(torch.tensor([math.log(0.5)]), own).sum().backward()
    assert logits.grad[0].tolist() == pytest.approx([0.5, -0.25, -0.25])


@pytest.mark.parametrize("others", [0.0, -torch.inf])
@pytest.mark.parametrize("target", [200.0, -200.0, -torch.inf])
def test_gradients_of_alm_are_finite_for_any_legal_logits(target, others):
    logits = torch.tensor([[target, others, others, 1.0 if target < 0 else others]], requires_grad=True)
    chunks = chunks_of([0], [0], [True], [True])
    for teacher in (0.0, -1e-9, -1.0, -200.0, -torch.inf):
        loss = alm(logits, torch.tensor([0]), chunks, torch.tensor([teacher]), LossSettings()).loss.total
        (gradient,) = torch.autograd.grad(loss, logits)
        assert gradient.isfinite().all(), teacher
