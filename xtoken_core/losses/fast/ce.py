"""Next-token cross-entropy of all rows that the student's output has."""

from dataclasses import dataclass
from typing import Self

import torch
from torch.nn import functional

from xtoken_core.losses.fast.rows import StudentRows
from xtoken_core.losses.fast.term import BlockSums, RowTerm
from xtoken_core.losses.sums import Measure


@dataclass(frozen=True)
class CrossEntropy(RowTerm):
    """rows: N. See `reference.ce`; the odds against all other tokens say log p where that rounds to zero."""

    rows: int

    @property
    def count(self) -> int:
        return self.rows

    @property
    def measures(self) -> dict[Measure, int]:
        return {Measure.TOP1_AGREEMENT: self.rows}

    def block(self, rows: StudentRows, first: int) -> BlockSums:
        """See `Term.block`."""
        odds = rows.target_odds()
        loss = functional.softplus(odds.others - odds.logit).sum()
        is_largest = odds.logit.detach() >= rows.largest()
        return BlockSums(loss, is_largest.sum()[None])

    def to(self, device: torch.device) -> Self:
        """Itself: it holds no tensors."""
        return self
