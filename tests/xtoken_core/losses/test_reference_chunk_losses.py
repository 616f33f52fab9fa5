"""p_kl and gold beyond the recorded values: other divergences, equality, and gradients by finite differences."""

import math

import pytest
import torch
from fakes import random_logits, reproducible
from hypothesis import given
from hypothesis import strategies as st

from xtoken_core.loss_options import DivergenceKind
from xtoken_core.losses.chunks import ChunkRows, Chunks, chunks_of_tokens
from xtoken_core.losses.common import ProjectionTensors, common_tokens
from xtoken_core.losses.divergence import Divergence
from xtoken_core.losses.reference import gold, p_kl
from xtoken_core.losses.settings import GoldSettings, KLSettings
from xtoken_core.losses.sums import Measure

SEEDS = st.integers(0, 2**31)
INDICES = torch.tensor([[0, -1], [1, 2], [3, -1], [4, 0], [-1, -1]])
WEIGHTS = torch.tensor([[1.0, 0.0], [0.9, 0.1], [1.0, 0.0], [0.6, 0.4], [0.0, 0.0]], dtype=torch.float64)
PROJECTION = ProjectionTensors(INDICES, WEIGHTS)
STUDENT_SIZE, TEACHER_SIZE = 5, 6
STUDENT, TEACHER = random_logits(8, STUDENT_SIZE, 0).double(), random_logits(10, TEACHER_SIZE, 1).double()
COLUMNS = torch.tensor([4, 0, 2])
KINDS = [Divergence(kind, 0.3) for kind in DivergenceKind]


def some_chunks(exact: tuple[bool, bool] = (True, False), sample_mask: tuple[float, float] = (1.0, 1.0)) -> Chunks:
    """Two samples of two chunks each; student and teacher cut them differently."""
    return chunks_of_tokens(
        torch.tensor([[-1, 0, 0, 1], [0, 1, 1, 1]]),
        torch.tensor([[-1, 0, 1, 1, -1], [-1, 0, 0, 1, 1]]),
        torch.ones(2, 2, dtype=torch.bool),
        torch.tensor([exact, exact]),
        torch.tensor(sample_mask),
    )


@pytest.mark.parametrize("divergence", KINDS)
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_gradients_are_those_of_the_functions(divergence, temperature):
    logits, weights = STUDENT.clone().requires_grad_(), WEIGHTS.clone().requires_grad_()
    chunks, common = some_chunks(), common_tokens(PROJECTION, STUDENT_SIZE, TEACHER_SIZE, 0.6)
    kl, gold_settings = KLSettings(temperature, divergence), GoldSettings(temperature, divergence, 2)

    def p_kl_total(x, w):
        return p_kl(x, TEACHER, chunks, ProjectionTensors(INDICES, w), COLUMNS, kl).loss.total

    assert torch.autograd.gradcheck(p_kl_total, (logits, weights))
    assert torch.autograd.gradcheck(lambda x: gold(x, TEACHER, chunks, common, gold_settings).loss.total, logits)


def test_a_projection_entry_named_twice_counts_twice():
    twice = ProjectionTensors(
        torch.tensor([[0, 0], [1, 2], [3, -1], [4, 0], [-1, -1]]),
        torch.tensor([[0.5, 0.5], [0.9, 0.1], [1.0, 0.0], [0.6, 0.4], [0.0, 0.0]], dtype=torch.float64),
    )
    found, expected = (
        p_kl(STUDENT, TEACHER, some_chunks(), one, COLUMNS, KLSettings()).loss.total for one in (twice, PROJECTION)
    )
    torch.testing.assert_close(found, expected)


def test_only_exact_chunks_of_kept_samples_count_and_dropped_samples_are_still_seen_by_the_agreement():
    chunks = some_chunks(sample_mask=(1.0, 0.0))
    both = p_kl(STUDENT, TEACHER, chunks, PROJECTION, COLUMNS, KLSettings())
    exact = p_kl(STUDENT, TEACHER, chunks.only_exact(), PROJECTION, COLUMNS, KLSettings())
    # The first chunk of the second sample is a first token, which nothing predicts.
    assert (both.loss.count, both.measures[Measure.TOP1_AGREEMENT].count) == (2, 3)
    assert (exact.loss.count, exact.measures[Measure.TOP1_AGREEMENT].count) == (1, 1)
    assert 0 < exact.loss.total < both.loss.total


def one_position_a_chunk(rows: int) -> Chunks:
    each, all_of_them = torch.arange(rows), torch.ones(rows, dtype=torch.bool)
    return Chunks(ChunkRows(each, each), ChunkRows(each, each), all_of_them, all_of_them, all_of_them)


@reproducible
@given(SEEDS, st.sampled_from(KINDS), st.sampled_from([None, 0.6]), st.sampled_from([0.5, 1.0, 2.0]))
def test_gold_is_zero_where_the_teacher_is_the_student(seed, divergence, threshold, temperature):
    logits = random_logits(3, STUDENT_SIZE, seed).double()
    same = ProjectionTensors(torch.tensor([[0, -1], [1, -1], [2, 3], [3, 4], [4, 1]]), WEIGHTS[[0, 2, 1, 1, 3]])
    common = common_tokens(same, STUDENT_SIZE, STUDENT_SIZE, threshold)
    settings = GoldSettings(temperature, divergence)
    found = gold(logits, logits + 1.0, one_position_a_chunk(3), common, settings)
    assert len(common.student_ids) == (2 if threshold is None else 5)
    assert found.loss.total.item() == pytest.approx(0, abs=1e-12)
    assert found.measures[Measure.TOP1_AGREEMENT].mean == 1


@reproducible
@given(SEEDS)
def test_parts_of_gold_add_up_and_padded_teacher_columns_have_none(seed):
    student, teacher = random_logits(3, STUDENT_SIZE, seed), random_logits(3, TEACHER_SIZE + 2, seed + 1)
    common, chunks = common_tokens(PROJECTION, STUDENT_SIZE, TEACHER_SIZE, None), one_position_a_chunk(3)
    found = gold(student, teacher, chunks, common, GoldSettings(temperature=2.0))
    parts = found.measures[Measure.COMMON_KL].total + found.measures[Measure.UNCOMMON_L1].total
    torch.testing.assert_close(found.loss.total, 4 * parts)
    cut = gold(student, teacher[:, :TEACHER_SIZE], chunks, common, GoldSettings(temperature=2.0))
    assert torch.equal(cut.loss.total, found.loss.total)


def test_p_kl_is_zero_where_the_projected_student_is_the_teacher_on_the_columns():
    student = torch.tensor([[0.1, 0.2, 0.3, 0.25, 0.15]], dtype=torch.float64).log()
    projected = {0: 0.1 + 0.25 * 0.4, 2: 0.2 * 0.1, 4: 0.25 * 0.6}
    teacher = torch.full((1, TEACHER_SIZE), -3.0, dtype=torch.float64)
    for column, mass in projected.items():
        teacher[0, column] = math.log(mass)
    found = p_kl(student, teacher, one_position_a_chunk(1), PROJECTION, COLUMNS, KLSettings())
    assert found.loss.total.item() == pytest.approx(0, abs=1e-8)
    assert found.measures[Measure.TOP1_AGREEMENT].mean == 1
