"""The cells of many positions, as segments of the student's tokens in prefix order.

All tokens that a given one is a prefix of stand side by side in a `PrefixOrder`, so what belongs to one cell is a few
runs of places: a record of k tokens cuts the whole vocabulary into at most 2k + 1 runs. A column for each student id
would take as much memory as the logits.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch


@dataclass(frozen=True, eq=False)
class CellBatch:
    """The cells of N positions; M = k + 1 columns, the last is the rest cell.

    A stored token that opens no cell (not a student token, or one that counts as equal to an earlier one) leaves its
    column empty.

    teacher_logmass: float32 [N, M], sums to one in each row; -inf in empty columns.
    segment_end: int32 [N, S], the place where each segment of a row ends and the next one begins; the first begins at
        place 0, the last ends at Vs. Segments can be empty: the shorter rows are filled up with them.
    segment_cell: int32 [N, S], the column that the segment's tokens fall in.
    order: int32 [Vs], the student id at each place.
    """

    teacher_logmass: torch.Tensor
    segment_end: torch.Tensor
    segment_cell: torch.Tensor
    order: torch.Tensor

    def __len__(self) -> int:
        return len(self.teacher_logmass)

    @property
    def columns(self) -> int:
        """M, the cells of a position, empty ones and the rest included."""
        return self.teacher_logmass.shape[1]

    def to(self, device: torch.device | str) -> Self:
        """The same cells on another device."""
        return type(self)(*(tensor.to(device, non_blocking=True) for tensor in vars(self).values()))

    def rows(self, first: int, last: int) -> Self:
        """The positions from `first` to `last`, exclusive: views, nothing is copied."""
        by_row = ("teacher_logmass", "segment_end", "segment_cell")
        return replace(self, **{name: getattr(self, name)[first:last] for name in by_row})

    def shard(self, first: int, size: int) -> Self:
        """The student ids from `first` to `first + size`, exclusive, alone: they count from zero, the cells stay.

        For one rank's part of a student whose vocabulary is split, and for a head with fewer columns than ids.
        """
        kept = (self.order >= first) & (self.order < first + size)
        before = torch.nn.functional.pad(kept.cumsum(0, dtype=torch.int32), (1, 0))
        return replace(self, segment_end=before[self.segment_end.long()], order=self.order[kept] - first)

    def cell_map(self) -> torch.Tensor:
        """The column that each student id falls in, int32 [N, Vs]: as large as the logits."""
        lengths = self.segment_end.diff(dim=1, prepend=self.segment_end.new_zeros(len(self), 1))
        by_place = self.segment_cell.flatten().repeat_interleave(lengths.flatten()).view(len(self), len(self.order))
        return torch.empty_like(by_place).index_copy_(1, self.order.long(), by_place)
