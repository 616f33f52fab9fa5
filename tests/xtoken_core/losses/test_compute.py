"""Several losses in one pass over blocks: factors, norms, what is differentiated, and how much memory it takes."""

from typing import Any

import pytest
import torch
from fakes import random_logits
from loss_batches import ROWS, STUDENT_SIZE, TEACHER_SIZE, Batch, head_of, set_blocks
from torch.utils._python_dispatch import TorchDispatchMode

from xtoken_core.losses.cell_batch import CellBatch
from xtoken_core.losses.common import ProjectionTensors, common_tokens
from xtoken_core.losses.fast.alm import ALM
from xtoken_core.losses.fast.blocks import compute
from xtoken_core.losses.fast.ce import CrossEntropy
from xtoken_core.losses.fast.chunk_table import ChunkTable
from xtoken_core.losses.fast.direct_kl import DirectKL, DirectKLTopK
from xtoken_core.losses.fast.gold import Gold
from xtoken_core.losses.fast.p_kl import PKL, ColumnEntries
from xtoken_core.losses.fast.position_term import Positions
from xtoken_core.losses.fast.prefix_kl import PrefixKL
from xtoken_core.losses.fast.student import Head, Logits
from xtoken_core.losses.fast.term import Term
from xtoken_core.losses.fast.uld import ULD, ULDTopK
from xtoken_core.losses.position_losses import cross_entropy
from xtoken_core.losses.settings import GoldSettings, KLSettings
from xtoken_core.losses.topk import TopK

KL = KLSettings(2.0)
SOME = torch.arange(1, ROWS, 3)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    set_blocks(monkeypatch, 6)


def terms_of(batch: Batch) -> list[Term]:
    """One of each kind, those of positions at some of the rows."""
    projection = ProjectionTensors(batch.indices, batch.weights)
    table, positions = ChunkTable.of(batch.chunks), Positions.of(SOME)
    record = TopK(*(part[SOME] for part in vars(batch.record).values()))
    cells = CellBatch(*(part[SOME] for part in list(vars(batch.cells).values())[:3]), batch.cells.order)
    teacher = batch.teacher_logits[SOME, :TEACHER_SIZE]
    common = common_tokens(projection, STUDENT_SIZE, TEACHER_SIZE, 0.6)
    return [
        CrossEntropy(ROWS),
        PKL(table, batch.teacher_logits, ColumnEntries.of(projection, torch.arange(16), TEACHER_SIZE), KL),
        Gold(table, batch.teacher_logits, common, GoldSettings(2.0, uncommon_topk=7)),
        ALM(ChunkTable.of(batch.chunks.only_exact()), batch.teacher_logits.log_softmax(dim=1)[:, 0], KL),
        DirectKL(positions, teacher, None, STUDENT_SIZE, KL),
        DirectKLTopK(positions, record, STUDENT_SIZE, KL),
        ULD(positions, teacher, KL),
        ULDTopK(positions, record, STUDENT_SIZE, KL),
        PrefixKL(positions, cells, KL),
    ]


def gradients_of(terms: list[Term], factors: torch.Tensor | None, batch: Batch) -> list[torch.Tensor]:
    """Of a head's three parts and the projection's weights."""
    head = head_of(torch.float64)
    whole = Head(head.hidden, head.weight, head.bias, batch.targets)
    batch.weights.grad = None
    compute(whole, terms, factors).loss.backward()
    found = [*(part.grad for part in whole.tensors), batch.weights.grad]
    return [torch.zeros(()) if gradient is None else gradient for gradient in found]


def test_several_terms_are_the_sum_of_single_ones_times_their_factors() -> None:
    batch = Batch.of(torch.float64)
    batch.weights.requires_grad_()
    factors = torch.tensor([0.5, 2.0, 0.1, 3.0, 0.7, 1.5, 0.2, 0.9, 1.1], dtype=torch.float64)
    together = gradients_of(terms_of(batch), factors, batch)
    alone = [gradients_of([terms_of(batch)[i]], None, batch) for i in range(len(factors))]
    for place, gradient in enumerate(together):
        expected = sum(factor * one[place] for factor, one in zip(factors, alone, strict=True))
        torch.testing.assert_close(gradient, expected)
    logits = Logits(batch.logits, batch.targets)
    found = compute(logits, terms_of(batch), factors)
    singles = [compute(logits, [term]) for term in terms_of(batch)]
    torch.testing.assert_close(found.loss, (factors * torch.stack([one.loss for one in singles])).sum())
    assert found.finite
    for sums, one in zip(found.sums, singles, strict=True):
        torch.testing.assert_close(sums.loss.total, one.loss)
        assert sums.measures.keys() == one.sums[0].measures.keys()


def test_the_norm_of_each_term_is_that_of_its_own_gradient_of_the_logits() -> None:
    batch = Batch.of(torch.float64)
    factors = torch.arange(1.0, 10.0, dtype=torch.float64)
    values = batch.logits.clone().requires_grad_()
    found = compute(Logits(values, batch.targets), terms_of(batch), factors, norms=True)
    expected = []
    for factor, term in zip(factors, terms_of(batch), strict=True):
        alone = batch.logits.clone().requires_grad_()
        compute(Logits(alone, batch.targets), [term], factor[None]).loss.backward()
        expected.append(alone.grad.norm())
    assert found.gradient_norms is not None
    torch.testing.assert_close(found.gradient_norms, torch.stack(expected))
    found.loss.backward()
    plain = batch.logits.clone().requires_grad_()
    compute(Logits(plain, batch.targets), terms_of(batch), factors).loss.backward()
    torch.testing.assert_close(values.grad, plain.grad)


def test_without_anything_to_differentiate_the_values_are_the_same() -> None:
    batch = Batch.of(torch.float64)
    wanted = compute(Logits(batch.logits.clone().requires_grad_(), batch.targets), terms_of(batch))
    fixed = compute(Logits(batch.logits, batch.targets), terms_of(batch))
    with torch.no_grad():
        hushed = compute(Logits(batch.logits.clone().requires_grad_(), batch.targets), terms_of(batch))
    assert (wanted.loss.requires_grad, fixed.loss.requires_grad, hushed.loss.requires_grad) == (True, False, False)
    torch.testing.assert_close([fixed.loss, hushed.loss], [wanted.loss.detach()] * 2)


@pytest.mark.parametrize("frozen", range(3))
def test_a_part_of_a_head_that_needs_no_gradient_gets_none(frozen: int) -> None:
    batch, parts = Batch.of(torch.float64), list(head_of(torch.float64).tensors)
    all_parts = gradients_of([CrossEntropy(ROWS)], None, batch)
    parts[frozen] = parts[frozen].detach()
    compute(Head(*parts, targets=batch.targets), [CrossEntropy(ROWS)]).loss.backward()
    for place, part in enumerate(parts):
        assert (part.grad is None) == (place == frozen)
        if part.grad is not None:
            torch.testing.assert_close(part.grad, all_parts[place])


def test_a_second_backward_is_an_error() -> None:
    batch = Batch.of(torch.float64)
    total = cross_entropy(batch.logits.clone().requires_grad_(), batch.targets).loss.total
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="it works once"):
        total.backward()


class Largest(TorchDispatchMode):
    """Records how many numbers the largest tensor has that is made within it."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for one in found if isinstance(found, tuple | list) else [found]:
            if isinstance(one, torch.Tensor):
                self.numbers = max(self.numbers, one.numel())
        return found


def repeated(part: torch.Tensor, copies: int) -> torch.Tensor:
    return part.repeat(copies, *[1] * (part.dim() - 1))


def largest_tensor(copies: int) -> int:
    """Made by losses at positions, forward and backward, of so many copies of a batch; its hidden states are thin."""
    batch, count = Batch.of(torch.float32), ROWS * copies
    cells = [repeated(part, copies) for part in list(vars(batch.cells).values())[:3]]
    record = TopK(*(repeated(part, copies) for part in vars(batch.record).values()))
    everywhere = Positions.of(torch.arange(count))
    teacher = repeated(batch.teacher_logits[:ROWS, :STUDENT_SIZE], copies)
    hidden, weight = random_logits(count, 2, 0).requires_grad_(), random_logits(STUDENT_SIZE, 2, 1).requires_grad_()
    terms: list[Term] = [
        CrossEntropy(count),
        DirectKL(everywhere, teacher, None, STUDENT_SIZE, KL),
        DirectKLTopK(everywhere, record, STUDENT_SIZE, KL),
        ULDTopK(everywhere, record, STUDENT_SIZE, KL),
        PrefixKL(everywhere, CellBatch(*cells, batch.cells.order), KL),
    ]
    with Largest() as largest:
        compute(Head(hidden, weight, targets=repeated(batch.targets, copies)), terms).loss.backward()
    assert hidden.grad is not None
    return largest.numbers


def test_from_hidden_states_no_tensor_grows_with_the_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    set_blocks(monkeypatch, ROWS)
    few, many = largest_tensor(2), largest_tensor(8)
    assert few == many
    assert many < 2 * ROWS * STUDENT_SIZE


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_norms_of_small_gradients_are_those_of_the_gradient_that_is_given(dtype: torch.dtype) -> None:
    """Their squares would be zero in half precision."""
    logits = random_logits(4, 20_000, seed=0).mul(0.01).to(dtype).requires_grad_()
    teacher = random_logits(4, 20_000, seed=1).mul(0.01)
    term = DirectKL(Positions.of(torch.arange(4)), teacher, None, 20_000, KLSettings())
    found = compute(Logits(logits), [term], norms=True)
    found.loss.backward()
    assert found.gradient_norms is not None
    torch.testing.assert_close(found.gradient_norms[0], logits.grad.double().norm().float(), rtol=1e-3, atol=0)
