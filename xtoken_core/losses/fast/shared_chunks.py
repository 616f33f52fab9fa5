"""Chunks whose tokens sit on several ranks of a context-parallel group, which splits each sequence over its ranks.

A rank holds some rows of the student's and of the teacher's logits. Most chunks have all of their rows on one rank and
are computed there. `split_chunks` divides the chunks of the whole sequences into these and the shared ones:

    owners = RowOwners(student, teacher)             # the rank of each row, known to all ranks
    local, shared = split_chunks(chunks, owners, group)
    table = ChunkTable.of(local, shared)             # for p_kl, gold, h_kl and alm
    computed = compute(student_of_this_rank, [PKL(table, teacher_logits_of_this_rank, entries, settings)])

Every rank sums up its rows of the shared chunks, and the sums are added over the group, so all ranks of it must compute
the same terms in the same order, with or without rows. A shared chunk is counted (value, count and measures) on the
group's first rank alone, its gradient reaches the rows of every rank, and the gradient of a term's parameters is the
first rank's: totals, counts and parameters' gradients are right when summed over all ranks, as in data parallelism.

Cross-entropy and the losses at single positions need nothing of all this: their rows are on one rank.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch.autograd.function import once_differentiable

from xtoken_core.losses.chunks import ChunkRows, Chunks


@dataclass(frozen=True, eq=False)
class SharedChunks:
    """chunks: numbered the same on all ranks of `group`, with this rank's rows alone; each row is on exactly one rank.

    usable, counted and exact are the same on all ranks too: a chunk can be usable without a row here.
    """

    chunks: Chunks
    group: dist.ProcessGroup


@dataclass(frozen=True, eq=False)
class RowOwners:
    """Which rank of the group has each row of the student's and of the teacher's whole logits, int64 [N] and [T].

    A rank has its rows in the order of the whole. Where every rank has all of the teacher's rows, they are divided all
    the same, and each rank gives its own.
    """

    student: torch.Tensor
    teacher: torch.Tensor


def split_chunks(chunks: Chunks, owners: RowOwners, group: dist.ProcessGroup) -> tuple[Chunks, SharedChunks]:
    """The chunks with all of their rows on this rank, and those with rows on several; rows are this rank's, from 0.

    chunks: of the whole sequences, the same on all ranks; exact ones alone (`only_exact`) where a loss wants these.

    Raises:
        ValueError: for a chunk with a row that has no owner.
    """
    rank = dist.get_rank(group)
    sides = (("student", chunks.student, owners.student), ("teacher", chunks.teacher, owners.teacher))
    for name, rows, owner in sides:
        _require_owned(name, rows, owner)
    lowest, highest = _lowest_and_highest_owner(chunks, owners)
    is_shared, is_local = lowest < highest, (lowest == rank) & (highest == rank)
    student, teacher = (_own_rows(rows, owner, rank) for _, rows, owner in sides)
    own = replace(chunks, student=student, teacher=teacher)
    return _only(own, is_local), SharedChunks(_only(own, is_shared), group)


def sum_over_ranks(values: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
    """The sum of `values` over the ranks of `group`, differentiable where all of them compute the same from it."""
    result: torch.Tensor = _SumOverRanks.apply(values, group)
    return result


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
        total = values.contiguous().clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        """The gradient of the sum is the same on all ranks already."""
        return gradient, None


def _require_owned(name: str, rows: ChunkRows, owner: torch.Tensor) -> None:
    highest = int(rows.row.max()) if len(rows.row) else -1
    if highest >= len(owner):
        raise ValueError(
            f"a chunk has the {name} row {highest}, owners are given of {len(owner)} rows: give all of them"
        )


def _lowest_and_highest_owner(chunks: Chunks, owners: RowOwners) -> tuple[torch.Tensor, torch.Tensor]:
    """Of both sides' rows of each chunk; -1 for a chunk without rows."""
    chunk = torch.cat([chunks.student.chunk, chunks.teacher.chunk])
    owner = torch.cat([owners.student[chunks.student.row], owners.teacher[chunks.teacher.row]])
    none = owner.new_full((len(chunks),), -1)
    lowest = none.scatter_reduce(0, chunk, owner, "amin", include_self=False)
    return lowest, none.scatter_reduce(0, chunk, owner, "amax")


def _own_rows(rows: ChunkRows, owner: torch.Tensor, rank: int) -> ChunkRows:
    """This rank's rows, counted among its own."""
    mine = owner == rank
    kept = mine[rows.row]
    return ChunkRows((mine.cumsum(0) - 1)[rows.row[kept]], rows.chunk[kept])


def _only(chunks: Chunks, kept: torch.Tensor) -> Chunks:
    return replace(chunks, usable=chunks.usable & kept, counted=chunks.counted & kept)
