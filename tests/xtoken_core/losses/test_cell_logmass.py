"""Masses of cells in tiles against the form that has a column for each student id."""

from typing import Any

import pytest
import torch
from fakes import random_logits, reproducible
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from xtoken_core.losses import CellBatch
from xtoken_core.losses.fast import answers
from xtoken_core.losses.fast import cell_logmass as module
from xtoken_core.losses.fast.cell_tiles import TILE
from xtoken_core.losses.fast.rows import StudentRows
from xtoken_core.losses.reference.prefix_kl import cell_logmass as by_id

SEEDS = st.integers(0, 2**31)
IDS = 5 * TILE + 7


class _Asked(torch.autograd.Function):
    """The masses of all rows as losses ask for them, and their gradient as a block writes it."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, cells: CellBatch) -> torch.Tensor:
        ctx.rows = StudentRows(logits.detach(), None, None, differentiable=True)
        ctx.shape = logits
        return ctx.rows.cell_logmass(torch.arange(len(logits)), cells).detach().clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        out = torch.empty_like(ctx.shape)
        ctx.rows.write_gradient([gradient], out)
        return out, None


def cell_logmass(logits: torch.Tensor, cells: CellBatch) -> torch.Tensor:
    masses: torch.Tensor = _Asked.apply(logits, cells)
    return masses


def random_cells(rows: int, ids: int, segments: int, columns: int, seed: int) -> CellBatch:
    """Any cuts, nested or not: some segments are empty, some columns without any."""
    generator = torch.Generator().manual_seed(seed)
    ends = torch.randint(ids + 1, (rows, segments), generator=generator, dtype=torch.int32).sort(dim=1).values
    ends[:, -1:] = ids
    cell = torch.randint(columns, (rows, segments), generator=generator, dtype=torch.int32)
    order = torch.randperm(ids, generator=generator).int()
    return CellBatch(random_logits(rows, columns, seed).log_softmax(1), ends, cell, order)


def value_and_gradient(function, logits: torch.Tensor, cells: CellBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient is of a sum with random weights, over the cells that have any token."""
    logits = logits.clone().requires_grad_()
    found = function(logits, cells)
    weights = random_logits(*found.shape, seed=1).to(found.dtype)
    torch.where(found > -torch.inf, found * weights, 0.0).sum().backward()
    assert logits.grad is not None
    return found.detach(), logits.grad


def plain(logits: torch.Tensor, cells: CellBatch) -> torch.Tensor:
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return by_id(wide, cells.cell_map(), cells.columns)


def assert_equal_to_plain(logits: torch.Tensor, cells: CellBatch, **tolerances: float) -> None:
    found, expected = (value_and_gradient(function, logits, cells) for function in (cell_logmass, plain))
    assert [part.dtype for part in found] == [part.dtype for part in expected]
    torch.testing.assert_close(found, expected, **tolerances)


@reproducible
@given(st.integers(1, 4), st.integers(1, IDS), st.integers(1, 12), st.integers(1, 6), SEEDS, st.sampled_from([1, 100]))
def test_equals_the_form_with_a_column_for_each_id(rows, ids, segments, columns, seed, scale):
    cells = random_cells(rows, ids, segments, columns, seed)
    # The gradient is exp(logit - logmass): of numbers in the hundreds float32 keeps four decimals.
    assert_equal_to_plain(random_logits(rows, ids, seed, scale), cells, rtol=1e-5 * scale, atol=1e-5)


@reproducible
@given(st.integers(1, IDS), SEEDS, st.sampled_from([0.05, 0.5, 0.95]))
def test_forbidden_tokens_have_no_part(ids, seed, share):
    cells, logits = random_cells(3, ids, 6, 4, seed), random_logits(3, ids, seed)
    logits[torch.rand(3, ids, generator=torch.Generator().manual_seed(seed)) < share] = -torch.inf
    assert_equal_to_plain(logits, cells, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("columns", [0, 1, TILE, IDS - 1, IDS, IDS + 1, IDS + TILE])
def test_a_head_may_have_other_columns_than_the_cells_have_ids(columns):
    cells, logits = random_cells(4, IDS, 7, 4, seed=0), random_logits(4, columns, seed=2)
    assert_equal_to_plain(logits, cells, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_gradient_has_the_type_of_the_logits(dtype):
    cells, logits = random_cells(4, IDS, 7, 4, seed=0), random_logits(4, IDS, seed=2).to(dtype)
    assert_equal_to_plain(logits, cells)
    assert cell_logmass(logits, cells).dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_the_gradient_is_that_of_the_function():
    cells = random_cells(3, TILE + 5, 6, 4, seed=3)
    filled = torch.zeros(3, 4, dtype=torch.bool).scatter_(1, cells.cell_map().long(), True)
    logits = random_logits(3, TILE + 5, seed=4).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: cell_logmass(x, cells)[filled], logits)


def test_a_cell_far_below_another_keeps_its_mass():
    cells = random_cells(2, IDS, 9, 4, seed=5)
    logits = random_logits(2, IDS, seed=6).double() - 200.0 * cells.cell_map()
    exact = cell_logmass(logits, cells)
    assert exact.min() < -500
    torch.testing.assert_close(cell_logmass(logits.float(), cells).double(), exact, rtol=1e-6, atol=1e-5)
    assert_equal_to_plain(logits, cells)


def test_the_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch):
    cells, logits = random_cells(7, IDS, 7, 4, seed=0), random_logits(7, IDS, seed=2)
    together = value_and_gradient(cell_logmass, logits, cells)
    monkeypatch.setattr(module, "CPU_BLOCK", 3 * IDS)
    in_blocks = value_and_gradient(cell_logmass, logits, cells)
    assert all(torch.equal(one, other) for one, other in zip(in_blocks, together, strict=True))


def test_nan_stays_in_its_cell():
    cells, logits = random_cells(1, IDS, 9, 4, seed=5), random_logits(1, IDS, seed=6)
    logits[0, 3] = torch.nan
    nan = cell_logmass(logits, cells).isnan()
    assert nan.nonzero().tolist() == [[0, int(cells.cell_map()[0, 3])]]


def test_rows_without_any_token_have_no_mass():
    cells = random_cells(2, IDS, 7, 4, seed=0)
    logits = torch.full((2, IDS), -torch.inf, requires_grad=True)
    found = cell_logmass(logits, cells)
    found.square().sum().backward()  # an infinite gradient for each cell
    assert found.isneginf().all()
    assert logits.grad is not None
    assert logits.grad.count_nonzero() == 0


class LargestTensor(TorchDispatchMode):
    """Notes the most elements of any tensor that is made, but for those of the given shape."""

    def __init__(self, but: torch.Size) -> None:
        super().__init__()
        self.but, self.elements = but, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        tensors = [part for part in tree_leaves(made) if isinstance(part, torch.Tensor) and part.shape != self.but]
        self.elements = max([self.elements, *(tensor.numel() for tensor in tensors)])
        return made


@pytest.mark.parametrize("rows", [20, 200])
def test_nothing_beside_the_gradient_grows_with_the_positions(rows: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "CPU_BLOCK", 4 * IDS)
    monkeypatch.setattr(answers, "_PIECE", 4 * IDS)
    cells, logits = random_cells(rows, IDS, 7, 2, seed=0), random_logits(rows, IDS, seed=2).requires_grad_()
    with LargestTensor(but=logits.shape) as largest:
        cell_logmass(logits, cells).sum().backward()
    assert largest.elements < 8 * IDS
