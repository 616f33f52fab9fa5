"""prefix_kl (see `reference.prefix_kl`) straight from the segments of a record's cells."""

from dataclasses import dataclass

import torch

from xtoken_core.loss_options import DivergenceKind
from xtoken_core.losses.cell_batch import CellBatch
from xtoken_core.losses.fast.position_term import PositionTerm
from xtoken_core.losses.fast.rows import StudentRows
from xtoken_core.losses.fast.term import BlockSums
from xtoken_core.losses.settings import KLSettings
from xtoken_core.losses.sums import Measure


@dataclass(frozen=True, eq=False)
class PrefixKL(PositionTerm):
    """cells: those of each position."""

    cells: CellBatch
    settings: KLSettings

    @property
    def measures(self) -> dict[Measure, int]:
        return dict.fromkeys((Measure.TOP1_AGREEMENT, Measure.TAIL_MASS), self.count)

    def of(self, rows: StudentRows, row: torch.Tensor, inside: slice) -> BlockSums:
        cells = self.cells.rows(inside.start, inside.stop)
        return mass_divergence(cells.teacher_logmass, rows.cell_logmass(row, cells), self.settings)


def mass_divergence(teacher: torch.Tensor, student: torch.Tensor, settings: KLSettings) -> BlockSums:
    """Divergence of log masses [n, M], the rest last, both to the power 1 / temperature and normalised again.

    In the reverse direction cells that the record gives no mass are left out, see `reference.prefix_kl`.
    """
    if settings.divergence.kind == DivergenceKind.REVERSE:
        student = student.masked_fill(teacher == -torch.inf, -torch.inf)
    left = (teacher.to(student.dtype) / settings.temperature).log_softmax(dim=-1)
    right = (student / settings.temperature).log_softmax(dim=-1)
    agree = left.argmax(dim=-1) == right.detach().argmax(dim=-1)
    measured = torch.stack([agree.sum(), teacher[:, -1].exp().sum()])
    return BlockSums(settings.divergence.of(left, right).sum(), measured)
