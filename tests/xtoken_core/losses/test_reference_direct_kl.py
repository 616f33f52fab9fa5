"""direct_kl and prefix_kl over cells: what they promise, on random logits."""

import math

import pytest
import torch
from fakes import random_logits, records_of, reproducible, vocabularies
from hypothesis import given
from hypothesis import strategies as st

from xtoken_core.loss_options import DivergenceKind
from xtoken_core.losses.divergence import Divergence
from xtoken_core.losses.reference import direct_kl, direct_kl_top_k
from xtoken_core.losses.reference.prefix_kl import divergence_of_cells
from xtoken_core.losses.settings import KLSettings
from xtoken_core.losses.sums import Measure
from xtoken_core.losses.topk import TopK

SEEDS = st.integers(0, 2**31)
DIVERGENCES = st.sampled_from([Divergence(), Divergence(DivergenceKind.REVERSE), Divergence(DivergenceKind.JSD, 0.3)])
TEMPERATURES = st.sampled_from([0.5, 1.0, 2.0])
ROWS, SIZE = 3, 7


def record_of(logits: torch.Tensor, k: int) -> TopK:
    log_probs = logits.log_softmax(dim=-1)
    order = log_probs.argsort(dim=-1, descending=True)
    ids, others = order[:, :k], order[:, k:]
    return TopK(ids, log_probs.gather(1, ids), log_probs.gather(1, others).logsumexp(dim=-1))


def divergence_in_floats(p: list[float], q: list[float], divergence: Divergence) -> float:
    def kl(left: list[float], right: list[float]) -> float:
        return sum(a * math.log(a / b) for a, b in zip(left, right, strict=True) if a > 0)

    if divergence.kind == DivergenceKind.FORWARD:
        return kl(p, q)
    if divergence.kind == DivergenceKind.REVERSE:
        return kl(q, p)
    beta = divergence.beta
    mixture = [beta * a + (1 - beta) * b for a, b in zip(p, q, strict=True)]
    return beta * kl(p, mixture) + (1 - beta) * kl(q, mixture)


def sharpened(masses: list[float], temperature: float) -> list[float]:
    powers = [mass ** (1 / temperature) for mass in masses]
    return [power / sum(powers) for power in powers]


@reproducible
@given(SEEDS, DIVERGENCES, TEMPERATURES, st.sampled_from([None, [2, 0, 5]]))
def test_direct_kl_is_that_of_brute_force(seed, divergence, temperature, columns):
    student, teacher = random_logits(ROWS, SIZE, seed).double(), random_logits(ROWS, SIZE + 2, seed + 1).double()
    chosen = None if columns is None else torch.tensor(columns)
    found = direct_kl(student, teacher, chosen, KLSettings(temperature, divergence))
    kept = columns or list(range(SIZE))
    expected = 0.0
    for row in range(ROWS):
        p, q = ((side[row, kept] / temperature).softmax(0).tolist() for side in (teacher, student))
        expected += temperature**2 * divergence_in_floats(p, q, divergence)
    assert found.loss.total.item() == pytest.approx(expected, rel=1e-9)
    assert found.loss.count == ROWS


@reproducible
@given(SEEDS, DIVERGENCES, TEMPERATURES, st.integers(1, SIZE - 1))
def test_direct_kl_of_a_record_is_that_of_brute_force(seed, divergence, temperature, k):
    student, teacher = random_logits(ROWS, SIZE, seed).double(), random_logits(ROWS, SIZE, seed + 1).double()
    record = record_of(teacher, k)
    found = direct_kl_top_k(student, record, KLSettings(temperature, divergence))
    expected = tail = 0.0
    for row in range(ROWS):
        stored = record.ids[row].tolist()
        masses = []
        for probs in (teacher[row].softmax(0).tolist(), student[row].softmax(0).tolist()):
            masses.append([probs[i] for i in stored] + [sum(p for i, p in enumerate(probs) if i not in stored)])
        tail += masses[0][-1]
        p, q = (sharpened(side, temperature) for side in masses)
        expected += temperature**2 * divergence_in_floats(p, q, divergence)
    assert found.loss.total.item() == pytest.approx(expected, rel=1e-8)
    assert found.measures[Measure.TAIL_MASS].mean.item() == pytest.approx(tail / ROWS)


@reproducible
@given(SEEDS, DIVERGENCES, st.integers(1, SIZE))
def test_a_record_gives_no_more_than_the_whole_vocabulary_and_as_much_if_it_stores_all(seed, divergence, k):
    student, teacher = random_logits(ROWS, SIZE, seed).double(), random_logits(ROWS, SIZE, seed + 1).double()
    settings = KLSettings(divergence=divergence)
    whole = direct_kl(student, teacher, None, settings).loss.total
    found = direct_kl_top_k(student, record_of(teacher, k), settings).loss.total
    assert found <= whole + 1e-12
    if k == SIZE:
        torch.testing.assert_close(found, whole)


@reproducible
@given(SEEDS, DIVERGENCES, TEMPERATURES, st.integers(1, SIZE))
def test_equal_models_lose_nothing_and_agree(seed, divergence, temperature, k):
    logits, settings = random_logits(ROWS, SIZE, seed).double(), KLSettings(temperature, divergence)
    for found in (
        direct_kl(logits, logits + 3.0, None, settings),
        direct_kl_top_k(logits, record_of(logits, k), settings),
    ):
        assert found.loss.total.item() == pytest.approx(0, abs=1e-12)
        assert found.measures[Measure.TOP1_AGREEMENT].mean == 1


@reproducible
@given(SEEDS, st.floats(0.01, 0.99))
def test_jsd_is_symmetric_in_its_sides_and_at_most_the_entropy_of_its_shares(seed, beta):
    student, teacher = random_logits(ROWS, SIZE, seed, 30).double(), random_logits(ROWS, SIZE, seed + 1, 30).double()
    there = direct_kl(student, teacher, None, KLSettings(divergence=Divergence(DivergenceKind.JSD, beta)))
    back = direct_kl(teacher, student, None, KLSettings(divergence=Divergence(DivergenceKind.JSD, 1 - beta)))
    torch.testing.assert_close(there.loss.total, back.loss.total)
    bound = -beta * math.log(beta) - (1 - beta) * math.log1p(-beta)
    assert 0 <= there.loss.mean <= bound


@reproducible
@given(vocabularies(), SEEDS, st.integers(1, 12))
def test_stored_records_keep_in_their_rest_what_hides_behind_stored_tokens(vocabulary, seed, k):
    logits = random_logits(ROWS, vocabulary.size, seed)
    k = min(k, vocabulary.size)
    found, expected = TopK.of(records_of(vocabulary, logits, k)), record_of(logits, k)
    assert torch.equal(found.ids, expected.ids)
    torch.testing.assert_close(found.logmass.exp(), expected.logmass.exp(), rtol=1e-3, atol=1e-5)


def test_a_rest_that_rounding_left_to_a_record_of_all_tokens_is_left_out():
    student, record = random_logits(ROWS, SIZE, 0), record_of(random_logits(ROWS, SIZE, 1), SIZE)
    rounded = TopK(record.ids, record.logprob, torch.full((ROWS,), -12.0))
    found = direct_kl_top_k(student, rounded, KLSettings())
    torch.testing.assert_close(found.loss.total, direct_kl_top_k(student, record, KLSettings()).loss.total)
    assert found.measures[Measure.TAIL_MASS].total == 0


@pytest.mark.parametrize("kind", DivergenceKind)
def test_a_token_that_neither_side_allows_leaves_the_gradient_finite(kind):
    student = torch.tensor([[0.5, 1.0, -torch.inf]], requires_grad=True)
    teacher = torch.tensor([[0.0, 2.0, -torch.inf]])
    loss = direct_kl(student, teacher, None, KLSettings(divergence=Divergence(kind))).loss.total
    loss.backward()
    assert loss > 0
    assert student.grad.isfinite().all()
    assert student.grad.count_nonzero() == 2


@pytest.mark.parametrize("kind", DivergenceKind)
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_gradients_are_those_of_the_functions(kind, temperature):
    student, teacher = random_logits(2, SIZE, 0).double().requires_grad_(), random_logits(2, SIZE, 1).double()
    settings = KLSettings(temperature, Divergence(kind, 0.3))
    columns, record = torch.tensor([1, 4]), record_of(teacher, 3)
    assert torch.autograd.gradcheck(lambda x: direct_kl(x, teacher, columns, settings).loss.total, student)
    assert torch.autograd.gradcheck(lambda x: direct_kl_top_k(x, record, settings).loss.total, student)


@reproducible
@given(SEEDS, DIVERGENCES, TEMPERATURES, st.integers(1, 4), st.integers(-2, 2))
def test_prefix_kl_over_any_cells_is_that_of_brute_force(seed, divergence, temperature, cells, more_columns):
    generator = torch.Generator().manual_seed(seed)
    student = random_logits(ROWS, SIZE + more_columns, seed).double()
    cell = torch.randint(cells, (ROWS, SIZE), generator=generator)
    cell[:, :cells] = torch.arange(cells)  # none is empty on the student's side
    teacher = random_logits(ROWS, cells, seed + 1).double().log_softmax(dim=-1)
    found = divergence_of_cells(student, teacher, cell, KLSettings(temperature, divergence))
    expected = 0.0
    for row in range(ROWS):
        probs = student[row, : min(SIZE, SIZE + more_columns)].softmax(0).tolist()
        masses = [sum(p for p, c in zip(probs, cell[row].tolist(), strict=False) if c == i) for i in range(cells)]
        p, q = sharpened(teacher[row].exp().tolist(), temperature), sharpened(masses, temperature)
        expected += divergence_in_floats(p, q, divergence)
    assert found.loss.total.item() == pytest.approx(expected, rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("kind", DivergenceKind)
def test_a_cell_that_is_empty_on_both_sides_leaves_the_gradient_right(kind):
    student, cell = random_logits(2, 4, 0).double().requires_grad_(), torch.tensor([[0, 3, 0, 1], [3, 3, 3, 3]])
    teacher = torch.tensor([[0.3, 0.3, 0.0, 0.4], [0.0, 0.0, 0.0, 1.0]], dtype=torch.float64).log()
    settings = KLSettings(2.0, Divergence(kind, 0.3))
    assert torch.autograd.gradcheck(lambda x: divergence_of_cells(x, teacher, cell, settings).loss.total, student)


def test_prefix_kl_compares_the_sums_of_cells():
    student = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log()
    cells = torch.tensor([[0, 3, 0, 1]])  # cell 2 is empty, 3 is the rest
    teacher = torch.tensor([[0.3, 0.3, 0.0, 0.4]]).log()
    found = divergence_of_cells(student, teacher, cells, KLSettings())
    expected = 0.3 * math.log(0.3 / 0.4) + 0.3 * math.log(0.3 / 0.4) + 0.4 * math.log(0.4 / 0.2)
    assert found.loss.total.item() == pytest.approx(expected, rel=1e-6)
    assert found.measures[Measure.TAIL_MASS].mean.item() == pytest.approx(0.4)
    assert found.measures[Measure.TOP1_AGREEMENT].mean == 0


def test_half_precision_logits_are_upcast():
    student, teacher = random_logits(ROWS, SIZE, 0).bfloat16(), random_logits(ROWS, SIZE, 1).bfloat16()
    found = direct_kl(student, teacher, None, KLSettings()).loss.total
    assert found.dtype == torch.float32
    assert torch.equal(found, direct_kl(student.float(), teacher.float(), None, KLSettings()).loss.total)
