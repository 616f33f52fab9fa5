"""The cells in which prefix_kl compares a student with a teacher's record.

Let A be the byte strings among a record's stored tokens that are also tokens of the student; special tokens that play
the same role on both sides count as equal. The cell of any token of either side is its longest prefix in A; what has
none falls in the rest cell. Both sides can say exactly what probability they put in each cell: the student by summing
over its vocabulary, the teacher because a record keeps, with each stored token, the mass that is hidden behind it.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numba import njit

from xtoken_core.prefix_order import PrefixOrder, paint
from xtoken_core.roles import pair_specials
from xtoken_core.topk.records import Records
from xtoken_core.vocabulary import TokenKind, Vocabulary


@dataclass(frozen=True, eq=False)
class CellBatch:
    """The cells of N positions; M = k + 1 columns, the last is the rest cell.

    A stored token that opens no cell (not a student token, or bytes that an earlier one has) leaves its column empty.

    teacher_logmass: float32 [N, M], sums to one in each row; -inf in empty columns.
    student_cell: int32 [N, Vs], the column that each student id falls in.
    """

    teacher_logmass: torch.Tensor
    student_cell: torch.Tensor

    def to(self, device: torch.device | str) -> Self:
        """The same cells on another device."""
        teacher_logmass = self.teacher_logmass.to(device, non_blocking=True)
        return type(self)(teacher_logmass, self.student_cell.to(device, non_blocking=True))


@dataclass(frozen=True, eq=False)
class PrefixCells:
    """What two vocabularies have to do with each other, kept to find the cells of many records quickly.

    atom: int32 [Vt], for each teacher id the canonical student id of the same bytes or role, -1 where there is none.
    canonical, parent: int32 [Vt], `Vocabulary.canonical` and `Vocabulary.prefix_parent` of the teacher.
    student_order: the student's tokens by prefix.
    """

    atom: np.ndarray
    canonical: np.ndarray
    parent: np.ndarray
    student_order: PrefixOrder

    @classmethod
    def between(cls, student: Vocabulary, teacher: Vocabulary) -> Self:
        """For records of `teacher` and a student with the vocabulary `student`."""
        return cls(_atoms(student, teacher), teacher.canonical, teacher.prefix_parent, PrefixOrder.of(student))

    def of(self, records: Records) -> CellBatch:
        """The cells of each record. Releases the interpreter's lock for most of its time.

        Where the student has no token in the rest cell, because A covers all of its tokens, it could never match the
        teacher's mass there: that mass is left out and the others are scaled to one.
        """
        parts = (records.topk_logprob, records.topk_hidden_logmass, records.rest_logmass[:, None])
        stored, hidden, rest = (np.exp(part, dtype=np.float64) for part in parts)
        masses = np.concatenate([stored + hidden, rest], axis=1)
        order = self.student_order
        teacher_mass, student_cell = _cells(
            records.topk_ids, masses, self.atom, self.canonical, self.parent, order.order, order.start, order.end
        )
        with np.errstate(divide="ignore"):  # an empty cell has the logarithm -inf
            logmass = np.log(teacher_mass / teacher_mass.sum(axis=1, keepdims=True)).astype(np.float32)
        return CellBatch(torch.from_numpy(logmass), torch.from_numpy(student_cell))


def _atoms(student: Vocabulary, teacher: Vocabulary) -> np.ndarray:
    atoms = np.full(teacher.size, -1, dtype=np.int32)
    for spelled, teacher_id in teacher.lookup.items():
        atoms[teacher_id] = student.lookup.get(spelled, -1)
    atoms = atoms[teacher.canonical]
    for student_id, teacher_id in pair_specials(student, teacher).items():
        if student.kind[student_id] == teacher.kind[teacher_id] == TokenKind.SPECIAL:
            atoms[teacher_id] = student_id
    return atoms


@njit(nogil=True, cache=True)
def _cells(
    topk_ids: np.ndarray,
    masses: np.ndarray,
    atom: np.ndarray,
    canonical: np.ndarray,
    parent: np.ndarray,
    order: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Teacher masses by cell, float64 [N, k + 1] and not normalised, and the cell of each student id, int32 [N, Vs]."""
    rows, k = topk_ids.shape
    teacher_mass = np.zeros((rows, k + 1))
    student_cell = np.empty((rows, len(order)), dtype=np.int32)
    cell_of_atom = np.full(len(order), -1, dtype=np.int32)  # by student id; emptied again after each row
    canvas = np.empty(len(order), dtype=np.int32)
    for row in range(rows):
        atoms = atom[topk_ids[row]]
        cells = _open_cells(atoms, cell_of_atom)
        for slot in range(k):
            cell = _teacher_cell(canonical[topk_ids[row, slot]], atom, parent, cell_of_atom)
            teacher_mass[row, cell] += masses[row, slot]
        paint(start[atoms[cells]], end[atoms[cells]], cells, k, canvas)
        student_cell[row, order] = canvas
        if np.any(canvas == k):
            teacher_mass[row, k] += masses[row, k]
        else:
            teacher_mass[row, k] = 0.0
        cell_of_atom[atoms[cells]] = -1
    return teacher_mass, student_cell


@njit(nogil=True, cache=True)
def _open_cells(atoms: np.ndarray, cell_of_atom: np.ndarray) -> np.ndarray:
    """The slots whose atom, a student id or -1, no earlier slot has: each opens a cell, noted in `cell_of_atom`."""
    opened = np.empty(len(atoms), dtype=np.int32)
    count = 0
    for slot, student_id in enumerate(atoms):
        if student_id >= 0 and cell_of_atom[student_id] < 0:
            cell_of_atom[student_id] = slot
            opened[count] = slot
            count += 1
    return opened[:count]


@njit(nogil=True, cache=True)
def _teacher_cell(token: int, atom: np.ndarray, parent: np.ndarray, cell_of_atom: np.ndarray) -> int:
    """The cell of the longest prefix of `token` (canonical) that has one, else the rest cell, -1."""
    while token >= 0:
        if atom[token] >= 0 and cell_of_atom[atom[token]] >= 0:
            return cell_of_atom[atom[token]]
        token = parent[token]
    return -1
