"""prefix_kl: KL divergence of teacher and student over cells of tokens that begin alike.

Both sides' probabilities are summed over the cells of `prefix_cells` and compared there, without approximation: the
loss is never negative, zero exactly when the cells' masses agree, and never above the divergence over finer cells. It
needs of the teacher only a record, which serves students of any vocabulary.
"""

import torch

from xtoken_core.losses.precision import upcast
from xtoken_core.losses.prefix_cells import CellBatch


def prefix_kl(student_logits: torch.Tensor, cells: CellBatch, temperature: float = 1.0) -> torch.Tensor:
    """KL(teacher || student) at each position, nats [N], in float32 or the logits' wider type.

    student_logits: [N, columns]; columns beyond the ids of `cells` are a padded head's and have no part, ids beyond the
        columns have no probability.
    temperature: both sides' log masses are divided by it and normalised again.

    Infinite where no token of a cell that the teacher gives probability to has a logit above -inf.
    """
    student = cell_logmass(upcast(student_logits), cells.student_cell, cells.teacher_logmass.shape[1])
    student = (student / temperature).log_softmax(dim=-1)
    teacher = (cells.teacher_logmass.to(student.dtype) / temperature).log_softmax(dim=-1)
    terms = teacher.exp() * (teacher - student)
    return torch.where(teacher > -torch.inf, terms, 0.0).sum(dim=-1)


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
    sums = torch.zeros_like(empty).scatter_add(1, cell, (logits - shift.gather(1, cell)).exp())
    filled = sums > 0
    return torch.where(filled, sums.where(filled, 1.0).log() + shift, -torch.inf)
