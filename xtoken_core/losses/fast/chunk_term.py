"""What the losses over chunks share."""

from dataclasses import dataclass
from functools import partial
from typing import Self

import torch

from xtoken_core.losses.fast.chunk_table import ChunkBlock, ChunkTable
from xtoken_core.losses.fast.rows import StudentRows
from xtoken_core.losses.fast.term import BlockSums, SharedPart, Spans, moved


@dataclass(frozen=True, eq=False)
class ChunkTerm:
    """A loss over the chunks of `table`: a subclass says what one block's chunks sum to."""

    table: ChunkTable

    @property
    def count(self) -> int:
        return self.table.count

    @property
    def spans(self) -> Spans:
        return self.table.spans

    @property
    def parameters(self) -> tuple[torch.Tensor, ...]:
        return ()

    @property
    def shared(self) -> SharedPart | None:
        table = self.table.shared
        return None if table is None else SharedPart(table.row, table.is_counted, partial(self.of, chunks=table.block))

    def block(self, rows: StudentRows, first: int) -> BlockSums | None:
        """See `Term.block`."""
        chunks = self.table.between(first, first + len(rows))
        return self.of(rows, chunks) if len(chunks) else None

    def of(self, rows: StudentRows, chunks: ChunkBlock) -> BlockSums:
        """The sums over `chunks`, at least one, whose student rows are those of the block.

        It asks for sums and means over chunks alone, which a slice of shared chunks makes over all ranks.
        """
        raise NotImplementedError

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        return moved(self, device)


def over_counted(values: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """The sum of `values` [chunks] where `counted`; inf elsewhere has no part, nan is seen wherever it is."""
    return values.where(counted | values.isnan(), 0.0).sum()


def same_largest(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """bool [n]: whether the student's largest entry is where the teacher's is; [n, D] each, False without entries."""
    if not teacher.shape[1]:
        return torch.zeros(len(teacher), dtype=torch.bool, device=teacher.device)
    best = largest_place(teacher)
    return student.detach().gather(1, best)[:, 0] == student.detach().amax(dim=-1)


def largest_place(values: torch.Tensor) -> torch.Tensor:
    """Where the largest entry of each row of `values` [n, D] stands, [n, 1]; without gradient."""
    if values.is_cuda:
        return values.argmax(dim=-1, keepdim=True)
    return torch.from_numpy(values.detach().numpy().argmax(axis=1))[
        :, None
    ]  # on one core six times faster than torch's
