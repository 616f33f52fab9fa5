"""What the losses at single positions share."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch

from xtoken_core.losses.fast.rows import StudentRows
from xtoken_core.losses.fast.term import BlockSums, RowTerm, moved


@dataclass(frozen=True, eq=False)
class Positions:
    """Rows of the student's output, different ones and rising: int64 [n], on the losses' device and as numpy."""

    row: torch.Tensor
    here: np.ndarray

    @classmethod
    def of(cls, row: torch.Tensor) -> Self:
        """Made on the CPU."""
        return cls(row, row.numpy())

    def __len__(self) -> int:
        return len(self.here)

    def between(self, first: int, last: int) -> slice:
        """Which of them are among the rows from `first` to `last`, exclusive."""
        start, stop = np.searchsorted(self.here, [first, last])
        return slice(int(start), int(stop))

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        return replace(self, row=self.row.to(device, non_blocking=True))


@dataclass(frozen=True, eq=False)
class PositionTerm(RowTerm):
    """A loss at `positions`: a subclass says what those of one block sum to."""

    positions: Positions

    @property
    def count(self) -> int:
        return len(self.positions)

    def block(self, rows: StudentRows, first: int) -> BlockSums | None:
        """See `Term.block`."""
        inside = self.positions.between(first, first + len(rows))
        if inside.start == inside.stop:
            return None
        return self.of(rows, self.positions.row[inside] - first, inside)

    def of(self, rows: StudentRows, row: torch.Tensor, inside: slice) -> BlockSums:
        """The sums over the positions `inside` (of all), at least one, which are the rows `row` of the block."""
        raise NotImplementedError

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        return moved(self, device)
