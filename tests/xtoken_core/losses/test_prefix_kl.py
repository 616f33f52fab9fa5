"""What prefix_kl promises, on random vocabularies of bytes, and against brute force."""

from collections.abc import Callable

import numpy as np
import oracles_losses as oracle
import pytest
import torch
from fakes import fake_vocabulary, random_logits, records_of, reproducible, vocabularies
from hypothesis import given
from hypothesis import strategies as st

from xtoken_core.losses import CellBatch, PrefixCells
from xtoken_core.losses.form import Impl
from xtoken_core.losses.position_losses import prefix_kl as summed_prefix_kl
from xtoken_core.losses.reference.prefix_kl import cell_logmass
from xtoken_core.losses.settings import KLSettings
from xtoken_core.losses.sums import Measure
from xtoken_core.roles import PAIRED_ROLES
from xtoken_core.topk import Codec, decode, encode
from xtoken_core.vocabulary import Vocabulary

SEEDS = st.integers(0, 2**31)
STORED = st.integers(1, 16)
TEMPERATURES = st.sampled_from([0.5, 1.0, 2.0])
ROWS = 3


def each_position(impl: Impl) -> Callable[..., torch.Tensor]:
    """The loss of each position by itself, nats [N], in that form."""

    def prefix_kl(logits: torch.Tensor, cells: CellBatch, temperature: float = 1.0) -> torch.Tensor:
        settings = KLSettings(temperature)
        alone = (
            summed_prefix_kl(logits[i : i + 1], cells.rows(i, i + 1), settings, impl).loss.total
            for i in range(len(cells))
        )
        return torch.stack(list(alone))

    return prefix_kl


EACH_FORM = pytest.mark.parametrize(
    "prefix_kl", [each_position("fast"), each_position("reference")], ids=["fast", "reference"]
)

STUDENT = fake_vocabulary([b"ab", b"b", b"bb", b"a", b"a", None, "</s>", "<only here>"], roles={"eos": 6})
TEACHER = fake_vocabulary([b"a", b"ab", b"b", b"b", b"ba", b"abb", "<end>"], roles={"eos": 6})


@st.composite
def vocabularies_with_roles(draw: st.DrawFn) -> Vocabulary:
    """Small vocabularies with three special tokens that share out the roles, several to one or none."""
    tokens = draw(st.lists(st.text("ab", min_size=1, max_size=3).map(str.encode), min_size=1, max_size=6))
    holders = draw(st.dictionaries(st.sampled_from(PAIRED_ROLES), st.integers(0, 2), min_size=2))
    roles = {role: len(tokens) + holder for role, holder in holders.items()}
    return fake_vocabulary([*tokens, "<0>", "<1>", "<2>", "<nowhere else>"], roles)


ANY = vocabularies() | vocabularies_with_roles()


def cells_of(student: Vocabulary, teacher: Vocabulary, teacher_logits: torch.Tensor, k: int) -> CellBatch:
    return PrefixCells.between(student, teacher).of(records_of(teacher, teacher_logits, k))


def fixed_cells(rows: int = 4, k: int = 3) -> CellBatch:
    return cells_of(STUDENT, TEACHER, random_logits(rows, TEACHER.size, seed=0), k)


@EACH_FORM
@reproducible
@given(ANY, ANY, SEEDS, STORED, TEMPERATURES)
def test_equals_brute_force(prefix_kl, student, teacher, seed, k, temperature):
    student_logits = random_logits(ROWS, student.size, seed)
    teacher_logits = random_logits(ROWS, teacher.size, seed + 1)
    records = records_of(teacher, teacher_logits, k)
    found = prefix_kl(student_logits, PrefixCells.between(student, teacher).of(records), temperature)
    for row in range(ROWS):
        expected = oracle.prefix_kl(
            student,
            teacher,
            oracle.softmax(student_logits[row].numpy()),
            oracle.softmax(teacher_logits[row].numpy()),
            records.topk_ids[row].tolist(),
            temperature,
        )
        assert found[row].item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@reproducible
@given(ANY, ANY, SEEDS, STORED)
def test_both_sides_put_all_their_probability_in_cells(student, teacher, seed, k):
    cells = cells_of(student, teacher, random_logits(ROWS, teacher.size, seed), k)
    log_probs = random_logits(ROWS, student.size, seed + 1).log_softmax(dim=-1)
    for logmass in (cells.teacher_logmass, cell_logmass(log_probs, cells.cell_map(), k + 1)):
        torch.testing.assert_close(logmass.exp().sum(dim=1), torch.ones(ROWS))


@EACH_FORM
@reproducible
@given(ANY, ANY, SEEDS, STORED, TEMPERATURES)
def test_is_zero_when_the_cells_agree_and_positive_when_they_do_not(prefix_kl, student, teacher, seed, k, temperature):
    cells = cells_of(student, teacher, random_logits(ROWS, teacher.size, seed), k)
    agreeing = logits_with_masses(cells, random_logits(ROWS, student.size, seed + 1))
    torch.testing.assert_close(prefix_kl(agreeing, cells, temperature), torch.zeros(ROWS), rtol=0, atol=2e-6)
    likeliest = cells.teacher_logmass.argmax(dim=1, keepdim=True)
    disagreeing = agreeing + 2.0 * (cells.cell_map() == likeliest)
    several = (cells.teacher_logmass > -3).sum(dim=1) > 1
    assert (prefix_kl(disagreeing, cells, temperature)[several] > 1e-4).all()


def logits_with_masses(cells: CellBatch, logits: torch.Tensor) -> torch.Tensor:
    """`logits` shifted cell by cell to the teacher's mass, or to next to none where the teacher has none."""
    student_logmass = cell_logmass(logits, cells.cell_map(), cells.teacher_logmass.shape[1])
    shift = (cells.teacher_logmass - student_logmass).nan_to_num(0.0, posinf=0.0).clamp(min=-200.0)
    return logits + shift.gather(1, cells.cell_map().long())


@EACH_FORM
@reproducible
@given(ANY, ANY, SEEDS, STORED, st.sampled_from([0.1, 3.0, 40.0]))
def test_is_never_negative_and_always_finite(prefix_kl, student, teacher, seed, k, scale):
    cells = cells_of(student, teacher, random_logits(ROWS, teacher.size, seed, scale), k)
    loss = prefix_kl(random_logits(ROWS, student.size, seed + 1, scale), cells)
    assert loss.isfinite().all()
    assert (loss >= -1e-5).all()


@EACH_FORM
@reproducible
@given(vocabularies(), SEEDS, STORED)
def test_is_never_above_the_divergence_of_the_full_distributions(prefix_kl, vocabulary, seed, k):
    student_logits = random_logits(ROWS, vocabulary.size, seed)
    teacher_logits = random_logits(ROWS, vocabulary.size, seed + 1)
    loss = prefix_kl(student_logits, cells_of(vocabulary, vocabulary, teacher_logits, k))
    for row in range(ROWS):
        full = oracle.kl(oracle.softmax(teacher_logits[row].numpy()), oracle.softmax(student_logits[row].numpy()))
        assert loss[row].item() <= full + 1e-5


@EACH_FORM
@reproducible
@given(vocabularies(), vocabularies(), SEEDS, STORED)
def test_is_never_above_the_divergence_over_all_cells(prefix_kl, student, teacher, seed, k):
    student_logits = random_logits(ROWS, student.size, seed)
    teacher_logits = random_logits(ROWS, teacher.size, seed + 1)
    all_cells = prefix_kl(student_logits, cells_of(student, teacher, teacher_logits, k=teacher.size))
    assert (prefix_kl(student_logits, cells_of(student, teacher, teacher_logits, k)) <= all_cells + 1e-5).all()


@EACH_FORM
def test_of_one_vocabulary_without_duplicates_and_all_stored_it_is_the_full_divergence(prefix_kl):
    vocabulary = fake_vocabulary([b"a", b"ab", b"b", "</s>"], roles={"eos": 3})
    student_logits, teacher_logits = random_logits(5, 4, seed=1), random_logits(5, 4, seed=2)
    loss = prefix_kl(student_logits, cells_of(vocabulary, vocabulary, teacher_logits, k=4))
    log_p, log_q = teacher_logits.log_softmax(-1), student_logits.log_softmax(-1)
    torch.testing.assert_close(loss, (log_p.exp() * (log_p - log_q)).sum(-1))


@EACH_FORM
@reproducible
@given(ANY, SEEDS, STORED, TEMPERATURES)
def test_is_zero_for_a_student_that_is_the_teacher(prefix_kl, vocabulary, seed, k, temperature):
    logits = random_logits(ROWS, vocabulary.size, seed)
    loss = prefix_kl(logits, cells_of(vocabulary, vocabulary, logits, k), temperature)
    torch.testing.assert_close(loss, torch.zeros(ROWS), rtol=0, atol=2e-6)


@pytest.mark.parametrize("impl", ["fast", "reference"])
@reproducible
@given(ANY, ANY, SEEDS, STORED, st.permutations(range(5)))
def test_one_position_at_a_time_equals_all_at_once_in_any_order(impl, student, teacher, seed, k, order):
    logits = random_logits(5, student.size, seed)
    records = records_of(teacher, random_logits(5, teacher.size, seed + 1), k)
    cells = PrefixCells.between(student, teacher)
    total, tail, gradient = value_and_gradient(impl, logits[order], cells.of(records.take(np.array(order))))
    rows = [value_and_gradient(impl, logits[row : row + 1], cells.of(records.take(np.array([row])))) for row in order]
    torch.testing.assert_close(sum(row[0] for row in rows), total, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(sum(row[1] for row in rows), tail)
    torch.testing.assert_close(torch.cat([row[2] for row in rows]), gradient, rtol=1e-5, atol=1e-6)


def value_and_gradient(impl: Impl, logits: torch.Tensor, cells: CellBatch) -> tuple[torch.Tensor, ...]:
    """The loss, the teacher's mass in the rest, and the gradient."""
    logits = logits.clone().requires_grad_()
    sums = summed_prefix_kl(logits, cells, KLSettings(), impl)
    sums.loss.total.backward()
    assert logits.grad is not None
    return sums.loss.total.detach(), sums.measures[Measure.TAIL_MASS].total, logits.grad


@EACH_FORM
@reproducible
@given(ANY, ANY, SEEDS, STORED, TEMPERATURES)
def test_is_the_same_live_and_from_the_cache(prefix_kl, student, teacher, seed, k, temperature):
    logits = random_logits(ROWS, student.size, seed)
    records = records_of(teacher, random_logits(ROWS, teacher.size, seed + 1), min(k, teacher.size))
    cells = PrefixCells.between(student, teacher)
    live = prefix_kl(logits, cells.of(records), temperature)
    cached = decode(encode(records, Codec.FLOAT32), Codec.FLOAT32)
    assert torch.equal(prefix_kl(logits, cells.of(cached), temperature), live)
    halved = decode(encode(records, Codec.FLOAT16), Codec.FLOAT16)
    # Three digits of each logarithm, and losses are of several nats.
    torch.testing.assert_close(prefix_kl(logits, cells.of(halved), temperature), live, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("k", [1, 3, 7])
def test_the_gradient_is_that_of_the_function(k, temperature):
    """Of the reference: the fast form's is compared with it, as it can be taken only once."""
    cells = fixed_cells(k=k)
    logits = random_logits(4, STUDENT.size, seed=5).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: each_position("reference")(x, cells, temperature), logits)


@EACH_FORM
def test_far_apart_logits_neither_overflow_nor_lose_a_cell(prefix_kl):
    cells = fixed_cells()
    logits = random_logits(4, STUDENT.size, seed=5, scale=300.0).requires_grad_()
    loss = prefix_kl(logits, cells)
    loss.sum().backward()
    exact = prefix_kl(logits.detach().double(), cells)
    torch.testing.assert_close(loss.detach().double(), exact, rtol=1e-5, atol=1e-5)
    assert logits.grad.isfinite().all()


@EACH_FORM
def test_a_forbidden_token_beside_an_allowed_one_leaves_the_loss_finite(prefix_kl):
    cells = fixed_cells()
    logits = random_logits(4, STUDENT.size, seed=6)
    logits[:, 4] = -torch.inf  # the second "a"
    logits.requires_grad_()
    loss = prefix_kl(logits, cells)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert logits.grad.isfinite().all()


@EACH_FORM
def test_a_cell_whose_tokens_are_all_forbidden_makes_the_loss_infinite(prefix_kl):
    cells = fixed_cells(rows=1)
    logits = random_logits(1, STUDENT.size, seed=6)
    logits[cells.cell_map() == cells.cell_map()[0, 3]] = -torch.inf
    assert prefix_kl(logits, cells).isposinf().all()


@EACH_FORM
def test_a_forbidden_cell_without_teacher_mass_does_no_harm(prefix_kl):
    teacher, student = fake_vocabulary([b"a", b"b"]), fake_vocabulary([b"a", b"b", b"c"])
    cells = cells_of(student, teacher, random_logits(2, 2, seed=0), k=2)
    logits = torch.tensor([[0.0, 1.0, -torch.inf], [2.0, 1.0, -torch.inf]], requires_grad=True)
    loss = prefix_kl(logits, cells)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert logits.grad.isfinite().all()


@EACH_FORM
def test_columns_of_a_padded_head_have_no_part(prefix_kl):
    cells, logits = fixed_cells(), random_logits(4, STUDENT.size, seed=7)
    padded = torch.cat([logits, torch.full((4, 3), 50.0)], dim=1).requires_grad_()
    loss = prefix_kl(padded, cells)
    loss.sum().backward()
    assert torch.equal(loss.detach(), prefix_kl(logits, cells))
    assert padded.grad[:, STUDENT.size :].count_nonzero() == 0


@EACH_FORM
def test_a_head_with_fewer_columns_than_ids_gives_the_others_no_probability(prefix_kl):
    cells, logits = fixed_cells(), random_logits(4, STUDENT.size, seed=8)
    without_last = logits.clone()
    without_last[:, -1] = -torch.inf
    torch.testing.assert_close(prefix_kl(logits[:, :-1], cells), prefix_kl(without_last, cells))


@EACH_FORM
def test_half_precision_logits_are_upcast(prefix_kl):
    cells, logits = fixed_cells(), random_logits(4, STUDENT.size, seed=9).bfloat16()
    loss = prefix_kl(logits, cells)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, prefix_kl(logits.float(), cells))
