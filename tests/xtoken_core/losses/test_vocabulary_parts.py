"""Fast losses of heads that have not the columns which a loss would like, and what each loss adds to the gradient."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from loss_problem import (
    STUDENT_SIZE,
    TEACHER_SIZE,
    WHOLE_VOCABULARY,
    Divided,
    Problem,
    prefix_cells,
    random_projection,
    terms,
)

from xtoken_core.losses.cell_batch import CellBatch
from xtoken_core.losses.fast.answers import Without
from xtoken_core.losses.fast.blocks import compute
from xtoken_core.losses.fast.position_term import Positions
from xtoken_core.losses.fast.prefix_kl import PrefixKL
from xtoken_core.losses.fast.shared_chunks import RowOwners, split_chunks
from xtoken_core.losses.fast.student import Logits, VocabularyShard
from xtoken_core.losses.fast.term import Term
from xtoken_core.losses.reference.prefix_kl import divergence_of_cells
from xtoken_core.losses.settings import KLSettings


@pytest.fixture
def group() -> Iterator[dist.ProcessGroup]:
    """Of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    assert dist.group.WORLD is not None
    yield dist.group.WORLD
    dist.destroy_process_group()


@pytest.fixture
def problem() -> Problem:
    return Problem.random(7, torch.float64)


def all_terms(problem: Problem) -> dict[str, Term]:
    projection = random_projection(7, torch.float64)
    return terms(problem, Divided.whole(problem), projection, torch.arange(TEACHER_SIZE))


def logits_of(problem: Problem) -> torch.Tensor:
    return problem.same_logits.flatten(0, 1).flip(0).clone().requires_grad_()


@pytest.mark.parametrize("name", WHOLE_VOCABULARY)
def test_a_loss_that_ranks_all_ids_refuses_a_part_of_them(
    name: str, problem: Problem, group: dist.ProcessGroup
) -> None:
    student = Logits(logits_of(problem), problem.targets.flatten(), VocabularyShard(5, group))
    with pytest.raises(ValueError, match=rf"{STUDENT_SIZE} ids, from 5 on, .* gather them on each rank first"):
        compute(student, [all_terms(problem)[name]])


def test_nothing_remains_on_any_rank_without_all_ids(group: dist.ProcessGroup) -> None:
    """A logarithm of zero, as without a shard, and no gradient."""
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
    every_id, out = torch.arange(5).expand(3, -1), torch.zeros(3, 5)
    for shard in (None, VocabularyShard(0, group)):
        remaining = Without(logits, torch.arange(3), every_id, shard)
        assert remaining.value.tolist() == [-torch.inf] * 3
        remaining.add_gradient(torch.ones(3), slice(0, 3), out)
        assert not out.any()


def test_rows_without_an_owner_are_refused(problem: Problem, group: dist.ProcessGroup) -> None:
    owners = Divided.whole(problem).owners
    chunks = problem.chunks()
    highest = int(chunks.teacher.row.max())
    with pytest.raises(ValueError, match=f"the teacher row {highest}, owners are given of {highest} rows"):
        split_chunks(chunks, RowOwners(owners.student, owners.teacher[:highest]), group)


def with_columns(cells: CellBatch, columns: int) -> CellBatch:
    """The teacher's mass is in cells that have a column, in any other the loss is infinite."""
    found = torch.zeros_like(cells.teacher_logmass, dtype=torch.bool)
    found.scatter_(1, cells.cell_map()[:, :columns].long(), True)
    return replace(cells, teacher_logmass=cells.teacher_logmass.where(found, -torch.inf).log_softmax(dim=1))


@pytest.mark.parametrize("columns", [1, 8, STUDENT_SIZE - 3, STUDENT_SIZE, STUDENT_SIZE + 4])
def test_prefix_kl_takes_the_columns_that_a_head_has(columns: int) -> None:
    """Ids beyond the columns have no probability, columns beyond the ids no part."""
    cells, settings = with_columns(prefix_cells(9, seed=3), columns), KLSettings(2.0)
    here, there = (torch.randn(9, columns, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    found = compute(Logits(here.requires_grad_()), [PrefixKL(Positions.of(torch.arange(9)), cells, settings)]).loss
    expected = divergence_of_cells(there.requires_grad_(), cells.teacher_logmass, cells.cell_map(), settings).loss.total
    torch.testing.assert_close(found, expected)
    assert bool(found.isfinite())
    found.backward()
    expected.backward()
    torch.testing.assert_close(here.grad, there.grad)


def test_the_norm_of_each_loss_is_that_of_its_own_gradient(problem: Problem) -> None:
    """All losses at once, with factors; those that save memory by using up what they saved among them."""
    named, targets = all_terms(problem), problem.targets.flatten()
    factors = torch.linspace(0.5, 3.0, len(named), dtype=torch.float64)
    together = logits_of(problem)
    computed = compute(Logits(together, targets), [*named.values()], factors, norms=True)
    computed.loss.backward()
    total = torch.zeros_like(together)
    for index, name in enumerate(named):
        term, alone = all_terms(problem)[name], logits_of(problem)
        compute(Logits(alone, targets), [term], factors[index : index + 1]).loss.backward()
        assert alone.grad is not None
        assert computed.gradient_norms is not None
        torch.testing.assert_close(computed.gradient_norms[index], alone.grad.norm())
        total += alone.grad
    torch.testing.assert_close(together.grad, total)
