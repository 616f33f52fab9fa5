"""What the losses do with nothing to do, and how they refuse what they cannot use, in both forms."""

from collections.abc import Callable

import pytest
import torch
from fakes import random_logits

from xtoken_core.loss_options import DivergenceKind
from xtoken_core.losses.cell_batch import CellBatch
from xtoken_core.losses.checks import require_finite
from xtoken_core.losses.chunk_losses import alm, gold, p_kl
from xtoken_core.losses.chunks import Chunks, chunks_of_tokens
from xtoken_core.losses.columns import column_maxima, likeliest
from xtoken_core.losses.common import ProjectionTensors, common_tokens
from xtoken_core.losses.divergence import Divergence
from xtoken_core.losses.fast.student import Head
from xtoken_core.losses.form import Impl
from xtoken_core.losses.position_losses import cross_entropy, direct_kl, direct_kl_top_k, prefix_kl, uld, uld_top_k
from xtoken_core.losses.settings import GoldSettings, KLSettings, LossSettings
from xtoken_core.losses.topk import TopK

SAMPLES, STUDENT_TOKENS, TEACHER_TOKENS = 2, 4, 5
STUDENT_SIZE, TEACHER_SIZE = 5, 6
PROJECTION = ProjectionTensors(
    torch.tensor([[0, -1], [1, 2], [3, -1], [4, 0], [-1, -1]]),
    torch.tensor([[1.0, 0.0], [0.9, 0.1], [1.0, 0.0], [0.6, 0.4], [0.0, 0.0]]),
)
COMMON = common_tokens(PROJECTION, STUDENT_SIZE, TEACHER_SIZE, threshold=None)
STUDENT = random_logits(SAMPLES * STUDENT_TOKENS, STUDENT_SIZE, seed=0)
TEACHER = random_logits(SAMPLES * TEACHER_TOKENS, TEACHER_SIZE, seed=1)
COLUMNS = torch.tensor([0, 3, 1])
KL = KLSettings()
FORMS: tuple[Impl, ...] = ("fast", "reference")
EACH_FORM = pytest.mark.parametrize("impl", FORMS)


def chunks(samples: int = SAMPLES, kept: float = 1.0) -> Chunks:
    return chunks_of_tokens(
        torch.tensor([[-1, 0, 0, 1]] * SAMPLES)[:samples],
        torch.tensor([[-1, 0, 1, 1, -1]] * SAMPLES)[:samples],
        torch.ones(samples, 2, dtype=torch.bool),
        torch.ones(samples, 2, dtype=torch.bool),
        torch.full((samples,), kept),
    )


def record(rows: int, k: int = 2) -> TopK:
    top = random_logits(rows, TEACHER_SIZE, seed=2).log_softmax(dim=-1)[:, :STUDENT_SIZE].topk(k)
    return TopK(top.indices, top.values, (-top.values.exp().sum(dim=-1)).log1p())


def cells(rows: int) -> CellBatch:
    """Three cells: the ids 0 and 1, the ids 2 and 3, the rest."""
    segments = torch.tensor([[2, 4, STUDENT_SIZE], [0, 1, 2]], dtype=torch.int32)
    ends, cell = segments[:, None].expand(2, rows, 3)
    return CellBatch(TEACHER[:rows, :3].log_softmax(dim=1), ends, cell, torch.arange(STUDENT_SIZE, dtype=torch.int32))


def of_positions(logits: torch.Tensor | Head, rows: int, impl: Impl) -> dict[str, torch.Tensor]:
    """The total of every loss that takes positions."""
    targets = torch.zeros(rows, dtype=torch.int64)
    return {
        "ce": cross_entropy(logits, targets, impl).loss.total,
        "direct_kl": direct_kl(logits, TEACHER[:rows], None, KL, impl).loss.total,
        "direct_kl of columns": direct_kl(logits, TEACHER[:rows], COLUMNS, KL, impl).loss.total,
        "direct_kl_top_k": direct_kl_top_k(logits, record(rows), KL, impl).loss.total,
        "uld": uld(logits, TEACHER[:rows], LossSettings(), impl).loss.total,
        "uld_top_k": uld_top_k(logits, record(rows), LossSettings(), impl).loss.total,
        "prefix_kl": prefix_kl(logits, cells(rows), KL, impl).loss.total,
    }


def of_chunks(logits: torch.Tensor, samples: int, kept: float, impl: Impl) -> dict[str, torch.Tensor]:
    """The mean of every loss that takes chunks."""
    found, teacher = chunks(samples, kept), TEACHER[: samples * TEACHER_TOKENS]
    targets, logprob = torch.zeros(len(logits), dtype=torch.int64), teacher[:, 0] - 20
    jsd = GoldSettings(divergence=Divergence(DivergenceKind.JSD))
    return {
        "p_kl": p_kl(logits, teacher, found, PROJECTION, COLUMNS, KL, impl).loss.mean,
        "gold": gold(logits, teacher, found, COMMON, GoldSettings(), impl).loss.mean,
        "gold by jsd": gold(logits, teacher, found, COMMON, jsd, impl).loss.mean,
        "alm": alm(logits, targets, found, logprob, LossSettings(), impl).loss.mean,
    }


POSITION_LOSSES = pytest.mark.parametrize("name", of_positions(STUDENT, len(STUDENT), "fast"))
CHUNK_LOSSES = pytest.mark.parametrize("name", of_chunks(STUDENT, SAMPLES, 1.0, "fast"))


@EACH_FORM
@POSITION_LOSSES
def test_no_positions_give_zero_and_no_gradient(name: str, impl: Impl) -> None:
    logits = STUDENT[:0].clone().requires_grad_()
    _require_zero(of_positions(logits, 0, impl)[name], logits)


@POSITION_LOSSES
def test_no_positions_give_a_head_a_gradient_of_zeros(name: str) -> None:
    hidden, weight = torch.zeros(0, 3, requires_grad=True), STUDENT.T[:, :3].clone().requires_grad_()
    loss = of_positions(Head(hidden, weight), 0, "fast")[name]
    _require_zero(loss, hidden)
    assert torch.equal(weight.grad, torch.zeros_like(weight))


@pytest.mark.parametrize(("samples", "kept"), [(SAMPLES, 0.0), (0, 1.0)])
@EACH_FORM
@CHUNK_LOSSES
def test_no_counted_chunks_give_zero_with_a_gradient_of_zeros(name: str, samples: int, kept: float, impl: Impl) -> None:
    logits = STUDENT[: samples * STUDENT_TOKENS].clone().requires_grad_()
    _require_zero(of_chunks(logits, samples, kept, impl)[name], logits)


def _require_zero(loss: torch.Tensor, logits: torch.Tensor) -> None:
    loss.backward()
    assert loss == 0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@EACH_FORM
@CHUNK_LOSSES
def test_counted_chunks_give_a_gradient_to_their_predictive_positions_alone(name: str, impl: Impl) -> None:
    logits = STUDENT.clone().requires_grad_()
    of_chunks(logits, SAMPLES, 1.0, impl)[name].backward()
    touched = logits.grad.abs().sum(dim=1) > 0
    assert touched.tolist() == [True, True, True, False] * SAMPLES


@EACH_FORM
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_logits_that_are_given_are_never_written_to(impl: Impl, temperature: float) -> None:
    """Also where they are taken as they are, without a copy: each chunk is one token on both sides."""
    each, all_of_it = torch.tensor([[-1, 0, 1, 2]]), torch.ones(1, 3, dtype=torch.bool)
    found = chunks_of_tokens(each, each, all_of_it, all_of_it, torch.ones(1))
    student, teacher, settings = STUDENT[:4].clone().requires_grad_(), TEACHER[:4].clone(), KLSettings(temperature)
    losses = [
        p_kl(student, teacher, found, PROJECTION, COLUMNS, settings, impl),
        gold(student, teacher, found, COMMON, GoldSettings(temperature), impl),
        direct_kl(student, teacher, None, settings, impl),
        uld(student, teacher, LossSettings(temperature), impl),
    ]
    sum(one.loss.total for one in losses).backward()
    assert torch.equal(student, STUDENT[:4])
    assert torch.equal(teacher, TEACHER[:4])


@EACH_FORM
def test_without_any_projection_entry_or_common_token_losses_are_still_defined(impl: Impl) -> None:
    nothing = ProjectionTensors(torch.full((STUDENT_SIZE, 1), -1), torch.zeros(STUDENT_SIZE, 1))
    logits = STUDENT.clone().requires_grad_()
    common = common_tokens(nothing, STUDENT_SIZE, TEACHER_SIZE, threshold=None)
    total = p_kl(logits, TEACHER, chunks(), nothing, COLUMNS, KL, impl).loss.total
    total = total + gold(logits, TEACHER, chunks(), common, GoldSettings(), impl).loss.total
    total.backward()
    assert total > 0
    assert logits.grad.isfinite().all()


@EACH_FORM
def test_more_columns_or_ranks_than_there_are_ids_means_all_of_them(impl: Impl) -> None:
    columns = likeliest(column_maxima(TEACHER, TEACHER_SIZE), vocab_topk=8192)
    assert sorted(columns.tolist()) == list(range(TEACHER_SIZE))
    few, many = (
        gold(STUDENT, TEACHER, chunks(), COMMON, GoldSettings(uncommon_topk=k), impl).loss.total for k in (3, 99)
    )
    assert torch.equal(few, many)
    found = uld_top_k(STUDENT[:3, :2], record(3, k=4), LossSettings(), impl).loss.total  # a student of two ids
    assert found.isfinite()


@EACH_FORM
def test_floating_types_may_differ(impl: Impl) -> None:
    rows = len(STUDENT)
    wide = of_chunks(STUDENT.double(), SAMPLES, 1.0, impl) | of_positions(STUDENT.double(), rows, impl)
    for name, value in (of_chunks(STUDENT, SAMPLES, 1.0, impl) | of_positions(STUDENT, rows, impl)).items():
        assert wide[name].dtype == torch.float64
        torch.testing.assert_close(wide[name].float(), value)


def broken(logits: torch.Tensor, row: int, value: float) -> torch.Tensor:
    changed = logits.clone()
    changed[row, 3] = value
    return changed


@EACH_FORM
@POSITION_LOSSES
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_a_logit_that_is_no_number_is_named_with_its_row(
    name: str, impl: Impl, value: float, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if side == "student":
        with pytest.raises(ValueError, match=f"student_logits has {value} in row 5: give finite logits"):
            of_positions(broken(STUDENT, 5, value), len(STUDENT), impl)
    elif name in ("direct_kl", "direct_kl of columns", "uld"):
        monkeypatch.setitem(globals(), "TEACHER", broken(TEACHER, 4, value))
        with pytest.raises(ValueError, match=f"teacher_logits has {value} in row 4: give finite logits"):
            of_positions(STUDENT, len(STUDENT), impl)


@EACH_FORM
@CHUNK_LOSSES
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("kept", [1.0, 0.0])
def test_so_is_one_in_a_loss_of_chunks_whether_or_not_these_count(
    name: str, impl: Impl, value: float, kept: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=f"student_logits has {value} in row 5: give finite logits"):
        of_chunks(broken(STUDENT, 5, value), SAMPLES, kept, impl)
    if name != "alm":
        monkeypatch.setitem(globals(), "TEACHER", broken(TEACHER, 6, value))
        with pytest.raises(ValueError, match=f"teacher_logits has {value} in row 6: give finite logits"):
            of_chunks(STUDENT, SAMPLES, kept, impl)


@EACH_FORM
def test_masses_that_are_no_numbers_are_named_with_their_row(impl: Impl) -> None:
    found, stored = cells(3), record(3)
    found.teacher_logmass[1, 0] = stored.logprob[2, 0] = torch.nan
    with pytest.raises(ValueError, match="teacher_logmass has nan in row 1: give logarithms of probabilities"):
        prefix_kl(STUDENT[:3], found, KL, impl)
    for loss in (direct_kl_top_k, uld_top_k):
        with pytest.raises(ValueError, match="topk_logprob has nan in row 2"):
            loss(STUDENT[:3], stored, KL, impl)
    with pytest.raises(ValueError, match="teacher_logprob has nan in row 1"):
        alm(STUDENT, torch.zeros(8).long(), chunks(), broken(TEACHER, 1, torch.nan)[:, 3], LossSettings(), impl)


@EACH_FORM
def test_hidden_states_that_are_no_numbers_are_named_by_the_row_of_their_logits(impl: Impl) -> None:
    weight = random_logits(STUDENT_SIZE, 4, seed=3)
    hidden = broken(random_logits(len(STUDENT), 4, seed=4), 6, torch.nan)
    with pytest.raises(ValueError, match="student_logits has nan in row 6"):
        cross_entropy(Head(hidden, weight), torch.zeros(8).long(), impl)


@EACH_FORM
def test_what_the_student_forbids_and_the_teacher_expects_is_infinitely_far(impl: Impl) -> None:
    forbidden = broken(STUDENT, 5, -torch.inf)
    assert direct_kl(forbidden, TEACHER[:8], None, KL, impl).loss.total == torch.inf
    with pytest.raises(ValueError, match="student_logits has nothing but -inf in row 5"):
        direct_kl(STUDENT.index_fill(0, torch.tensor([5]), -torch.inf), TEACHER[:8], None, KL, impl)


def test_a_row_needs_some_logit_above_minus_infinity_and_may_have_others() -> None:
    logits = STUDENT.clone()
    logits[1, 1:] = -torch.inf
    require_finite("student_logits", logits)
    require_finite("student_logits", logits[:0])
    logits[1] = -torch.inf
    with pytest.raises(ValueError, match="nothing but -inf in row 1"):
        require_finite("student_logits", logits)


@EACH_FORM
@pytest.mark.parametrize("kind", [DivergenceKind.FORWARD, DivergenceKind.REVERSE])
def test_a_probability_that_underflows_counts_as_none(kind: DivergenceKind, impl: Impl) -> None:
    """Its logarithm is finite, and on the other side the token is impossible."""
    possible, impossible = torch.tensor([[0.0, 1.0, -200.0]]), torch.tensor([[0.0, 1.0, -torch.inf]])
    forward = kind == DivergenceKind.FORWARD
    student, teacher = (impossible, possible) if forward else (possible, impossible)
    logits = student.clone().requires_grad_()
    total = direct_kl(logits, teacher, None, KLSettings(divergence=Divergence(kind)), impl).loss.total
    total.backward()
    assert abs(total) < 1e-6
    assert logits.grad.abs().max() < 1e-6


META = torch.device("meta")
REFUSED: dict[str, Callable[[], object]] = {
    "student_logits has the type torch.int64": lambda: p_kl(STUDENT.long(), TEACHER, chunks(), PROJECTION, COLUMNS, KL),
    "teacher_logits has the shape .2, 5, 6.: flatten": lambda: gold(
        STUDENT, TEACHER.view(SAMPLES, TEACHER_TOKENS, -1), chunks(), COMMON, GoldSettings()
    ),
    "student_logits has the shape .8, 0.: give at least one id": lambda: uld(STUDENT[:, :0], TEACHER, LossSettings()),
    "student_logits has 7 rows, its chunks name row 7": lambda: alm(
        torch.cat([STUDENT[:1], STUDENT[:6]]), torch.zeros(7).long(), _with_row(7), TEACHER[:, 0], LossSettings()
    ),
    "teacher_logits has 5 rows, its chunks name row 7": lambda: p_kl(
        STUDENT, TEACHER[:5], chunks(), PROJECTION, COLUMNS, KL
    ),
    "teacher_logprob has 3 rows, its chunks name row 7": lambda: alm(
        STUDENT, torch.zeros(8).long(), chunks(), TEACHER[:3, 0], LossSettings()
    ),
    "student_logits has 4 columns, the rows of the projection know 5 ids": lambda: p_kl(
        STUDENT[:, :4], TEACHER, chunks(), PROJECTION, COLUMNS, KL
    ),
    "student_logits has 4 columns, the common tokens know 5 ids": lambda: gold(
        STUDENT[:, :4], TEACHER, chunks(), COMMON, GoldSettings()
    ),
    "the projection names the teacher id 4, the teacher has 4 ids": lambda: p_kl(
        STUDENT, TEACHER[:, :4], chunks(), PROJECTION, COLUMNS, KL
    ),
    "teacher_logits has 4 columns, the common tokens take 6": lambda: gold(
        STUDENT, TEACHER[:, :4], chunks(), COMMON, GoldSettings()
    ),
    "teacher_logits has 4 columns, the student takes 5": lambda: direct_kl(STUDENT, TEACHER[:8, :4], None, KL),
    "columns has the id 6: teacher_logits has columns for the ids 0 to 5": lambda: p_kl(
        STUDENT, TEACHER, chunks(), PROJECTION, torch.tensor([6]), KL
    ),
    "columns has the id -1": lambda: direct_kl(STUDENT, TEACHER[:8], torch.tensor([2, -1]), KL),
    "columns has the id 2 more than once": lambda: p_kl(
        STUDENT, TEACHER, chunks(), PROJECTION, torch.tensor([2, 0, 2]), KL
    ),
    "the types differ, hidden: torch.float32, weight: torch.float64": lambda: cross_entropy(
        Head(STUDENT, STUDENT[:, :5].double()), torch.zeros(8).long()
    ),
    "hidden: .8, 5., weight: .8, 4.: give hidden": lambda: cross_entropy(
        Head(STUDENT, STUDENT[:, :4]), torch.zeros(8).long()
    ),
    "impl is 'quick': give 'fast' or 'reference'": lambda: direct_kl(STUDENT, TEACHER[:8], None, KL, "quick"),
    "columns has the type torch.float32: give integers": lambda: direct_kl(STUDENT, TEACHER[:8], torch.ones(1), KL),
    "topk_ids has the id 5: student_logits has": lambda: direct_kl_top_k(
        STUDENT[:1], TopK(torch.tensor([[5]]), torch.zeros(1, 1), torch.zeros(1)), KL
    ),
    "targets has the id 5": lambda: cross_entropy(STUDENT, torch.full((8,), 5)),
    "the numbers of rows differ, student_logits: 8, targets: 7": lambda: cross_entropy(STUDENT, torch.zeros(7).long()),
    "student_logits: 8, teacher_logits: 10": lambda: uld(STUDENT, TEACHER, LossSettings()),
    "student_logits: 8, topk_logprob: 3": lambda: uld_top_k(STUDENT, record(3), LossSettings()),
    "the devices differ, student_logits: cpu, teacher_logits: meta": lambda: direct_kl(
        STUDENT, TEACHER[:8].to(META), None, KL
    ),
    "temperature is 0: give a finite number above 0": lambda: KLSettings(0),
    "temperature is nan": lambda: GoldSettings(float("nan")),
    "uncommon_topk is 0": lambda: GoldSettings(uncommon_topk=0),
    "targets has the shape .8, 1.: give one id for each row": lambda: cross_entropy(STUDENT, torch.zeros(8, 1).long()),
    "columns has no ids: give at least one": lambda: direct_kl(STUDENT, TEACHER[:8], COLUMNS[:0], KL),
    "the projection has the shape .5, 0.: give at least one column": lambda: common_tokens(
        ProjectionTensors(torch.zeros(5, 0).long(), torch.zeros(5, 0)), STUDENT_SIZE, TEACHER_SIZE, threshold=None
    ),
    "kind is 'jensen': give one of forward, reverse, jsd": lambda: Divergence("jensen"),  # type: ignore[arg-type]
    "beta is 1.0: give a number between 0 and 1": lambda: Divergence(DivergenceKind.JSD, 1.0),
}


def _with_row(row: int) -> Chunks:
    found = chunks()
    found.student.row[-1] = row
    return found


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_used_is_refused_with_its_name_value_and_bound(message: str) -> None:
    with pytest.raises(ValueError, match=message):
        REFUSED[message]()
