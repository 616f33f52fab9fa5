"""Losses over the toy language as functions of a table of the student's logits, one row for each of its states.

The project's losses are sums of equal terms, but here a term stands for many equal places of the language. Each chunk
has rows of its own, so its weight can be put on the gradient of these rows: the gradient is then that of the weighted
sum; the value is not.
"""

from collections.abc import Callable

import numpy as np
import torch

from benchmarks.toy_cover import Covers
from benchmarks.toy_pair import ChunkTable, Pair
from xtoken_core.losses.common import CommonTokens, ProjectionTensors
from xtoken_core.losses.reference import alm, gold, p_kl, uld
from xtoken_core.losses.reference.prefix_kl import divergence_of_cells
from xtoken_core.losses.settings import GoldSettings, KLSettings, LossSettings
from xtoken_core.topk import Records, make_records

Objective = Callable[[torch.Tensor], torch.Tensor]


def weighted_rows(table: torch.Tensor, rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """`table[rows]`, whose gradient is multiplied by `weight` [N]."""
    taken = table[rows]
    if taken.requires_grad:
        taken.register_hook(lambda gradient: gradient * weight[:, None])
    return taken


def ce_objective(pair: Pair) -> Objective:
    """Cross-entropy, averaged over the student's tokens."""
    counts = torch.zeros(pair.student.truth.shape)
    for context, item, frequency in pair.readings:
        states, path = pair.student.state[context][item], pair.student.paths[item]
        counts[list(states), list(path)] += frequency
    share = counts / counts.sum()
    return lambda table: -(share * table.log_softmax(dim=-1)).sum()


def teacher_logits(pair: Pair) -> torch.Tensor:
    """Of a perfect teacher, [states, Vt]."""
    return torch.from_numpy(pair.teacher.truth).log().clamp(min=-60.0).float()


def teacher_records(pair: Pair, k: int) -> Records:
    """Of a perfect teacher, for all of its states."""
    logits = torch.from_numpy(pair.teacher.truth).log().float()
    return make_records(logits, torch.full((len(logits),), -1), pair.teacher.vocabulary, k)


def p_kl_objective(pair: Pair, table: ChunkTable, projection: ProjectionTensors) -> Objective:
    """All teacher ids are compared."""
    teacher = teacher_logits(pair)[table.teacher_state]
    columns = torch.arange(pair.teacher.vocabulary.size)

    def objective(logits: torch.Tensor) -> torch.Tensor:
        rows = weighted_rows(logits, table.student_state, table.row_weight)
        return p_kl(rows, teacher, table.chunks, projection, columns, KLSettings()).loss.total

    return objective


def gold_objective(pair: Pair, table: ChunkTable, common: CommonTokens) -> Objective:
    """gold or h_kl, by the common tokens."""
    teacher = teacher_logits(pair)[table.teacher_state]

    def objective(logits: torch.Tensor) -> torch.Tensor:
        rows = weighted_rows(logits, table.student_state, table.row_weight)
        return gold(rows, teacher, table.chunks, common, GoldSettings()).loss.total

    return objective


def alm_objective(pair: Pair, table: ChunkTable) -> Objective:
    """Over all chunks."""

    def objective(logits: torch.Tensor) -> torch.Tensor:
        rows = weighted_rows(logits, table.student_state, table.row_weight)
        return alm(rows, table.target, table.chunks, table.teacher_logprob, LossSettings()).loss.total

    return objective


def uld_objective(pair: Pair) -> Objective:
    """At common boundaries."""
    found = [(key, w) for key, (place, w) in pair.places().items() if place.start == place.offset]
    states = torch.tensor([key for key, _ in found])
    weight = torch.tensor([w for _, w in found], dtype=torch.float32)
    weight /= weight.sum()
    teacher = teacher_logits(pair)[states[:, 1]]

    def objective(logits: torch.Tensor) -> torch.Tensor:
        return uld(weighted_rows(logits, states[:, 0], weight), teacher, LossSettings()).loss.total

    return objective


def cover_objective(covers: Covers) -> Objective:
    """prefix_kl over the cells of `covers`, an average over the places where they say something."""
    found = [(key[0], w, covers.cells(place)) for key, (place, w) in covers.pair.places().items()]
    known = [(state, w, cells) for state, w, cells in found if cells is not None]
    state = torch.tensor([state for state, _, _ in known])
    weight = torch.tensor([w for _, w, _ in known], dtype=torch.float32)
    logmass, cell = _padded([cells for _, _, cells in known])
    weight /= weight.sum()

    def objective(logits: torch.Tensor) -> torch.Tensor:
        return divergence_of_cells(weighted_rows(logits, state, weight), logmass, cell, KLSettings()).loss.total

    return objective


def _padded(cells: list[tuple[np.ndarray, np.ndarray]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of equal length, the rest last in all."""
    columns = max(len(mass) for mass, _ in cells)
    masses = np.zeros((len(cells), columns))
    ids = np.empty((len(cells), len(cells[0][1])), dtype=np.int64)
    for row, (mass, cell) in enumerate(cells):
        masses[row, : len(mass) - 1], masses[row, -1] = mass[:-1], mass[-1]
        ids[row] = np.where(cell == len(mass) - 1, columns - 1, cell)
    return torch.from_numpy(masses).log().float(), torch.from_numpy(ids)
