"""prefix_kl: divergence of teacher and student over cells of tokens that begin alike.

Both sides' probabilities are summed over the cells of `prefix_cells` and compared there, without approximation. With
P the teacher's mass of a cell and Q the student's, both to the power 1 / tau and normalised again:

    loss = sum over positions of sum over cells of P (log P - log Q)

It is never negative and zero exactly when these masses agree; at temperature 1 it is never above the divergence over
finer cells. There is no factor for the temperature: masses are sharpened, not logits. It needs of the teacher only a
record, which serves students of any vocabulary.

The reverse direction, KL(Q || P), would be infinite wherever a record has no mass in a cell, because it was rounded
away or is known not to follow: such cells are left out there, and the student's masses of the others normalised.
"""

import torch

from xtoken_core.loss_options import DivergenceKind
from xtoken_core.losses.cell_batch import CellBatch
from xtoken_core.losses.measures import top1_agreement, total_of
from xtoken_core.losses.precision import upcast
from xtoken_core.losses.settings import KLSettings
from xtoken_core.losses.sums import LossSum, LossSums, Measure


def prefix_kl(student_logits: torch.Tensor, cells: CellBatch, settings: KLSettings) -> LossSums:
    """See `losses.prefix_kl`."""
    return divergence_of_cells(student_logits, cells.teacher_logmass, cells.cell_map(), settings)


def divergence_of_cells(
    student_logits: torch.Tensor, teacher_logmass: torch.Tensor, student_cell: torch.Tensor, settings: KLSettings
) -> LossSums:
    """The sums of prefix_kl over any cells.

    student_logits: [N, columns]. Columns beyond the ids of `student_cell` are a padded head's and have no part, ids
        beyond the columns have no probability.
    teacher_logmass: [N, M], log of the teacher's probability of each cell, the rest cell last; -inf for an empty one.
    student_cell: int [N, Vs], the cell of each student id.
    """
    student = cell_logmass(upcast(student_logits), student_cell, teacher_logmass.shape[1])
    if settings.divergence.kind == DivergenceKind.REVERSE:
        student = student.masked_fill(teacher_logmass == -torch.inf, -torch.inf)
    student = (student / settings.temperature).log_softmax(dim=-1)
    teacher = (teacher_logmass.to(student.dtype) / settings.temperature).log_softmax(dim=-1)
    total = settings.divergence.of(teacher, student).sum()
    measures = {
        Measure.TOP1_AGREEMENT: top1_agreement(teacher, student),
        Measure.TAIL_MASS: total_of(teacher_logmass[:, -1].exp()),
    }
    return LossSums(LossSum(total, total_of(student).count), measures)


def cell_logmass(logits: torch.Tensor, cell: torch.Tensor, cells: int) -> torch.Tensor:
    """logsumexp of `logits` [N, columns] over the ids of each cell, [N, cells]; -inf for a cell without any.

    cell: int [N, V]; columns beyond V, and ids beyond the columns, are left out. Each cell is shifted by its own
    largest logit, so that none underflows beside a likelier one.
    """
    ids = min(logits.shape[1], cell.shape[1])
    logits, cell = logits[:, :ids], cell[:, :ids].long()
    empty = logits.new_full((len(logits), cells), -torch.inf)
    largest = empty.scatter_reduce(1, cell, logits.detach(), "amax")
    shift = largest.where(largest > -torch.inf, 0.0)
    masses = (logits - shift.gather(1, cell)).exp().double()  # float32 would keep three digits of 100,000 in a cell
    sums = torch.zeros_like(empty, dtype=torch.float64).scatter_add(1, cell, masses).to(logits.dtype)
    filled = sums > 0
    return torch.where(filled, sums.where(filled, 1.0).log() + shift, -torch.inf)
