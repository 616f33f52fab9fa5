"""The cells in which prefix_kl compares a student with a teacher's record.

Let A be the byte strings among a record's stored tokens that are also tokens of the student; special tokens that pair
(see `xtoken_core.roles`) count as equal. The cell of any token of either side is its longest prefix in A; what has none
falls in the rest cell. Both sides can say exactly what probability they put in each cell: the student by summing over
its vocabulary, the teacher because a record keeps, with each stored token, the mass that is hidden behind it. A special
token that is not stored is part of the record's rest, so it falls in the rest cell, whatever it pairs with.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from xtoken_core.losses.cell_batch import CellBatch
from xtoken_core.prefix_atoms import PrefixAtoms
from xtoken_core.prefix_compiled import cell_segments
from xtoken_core.prefix_order import PrefixOrder
from xtoken_core.topk.records import Records
from xtoken_core.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class StudentTree:
    """The student's tokens by prefix. parent: int32 [Vs], `Vocabulary.prefix_parent`. order: of the same tokens."""

    parent: np.ndarray
    order: PrefixOrder

    @classmethod
    def of(cls, student: Vocabulary, atoms: PrefixAtoms) -> Self:
        """Of a student whose equal tokens are those of `atoms`."""
        return cls(student.prefix_parent, PrefixOrder.of(student, atoms.canonical))

    def cells(self, longest: np.ndarray, exact: np.ndarray, masses: np.ndarray) -> CellBatch:
        """Of N rows of byte strings and their masses, as `cell_segments` takes them; masses are divided by their sum.

        In a row without any mass all tokens are in the rest cell: the loss there is zero.
        """
        teacher_mass, *segments = self._segments(longest, exact, masses)
        empty = teacher_mass.sum(axis=1, keepdims=True) <= 0
        if empty.any():
            known = np.where(empty, np.arange(masses.shape[1]) == masses.shape[1] - 1, masses)
            teacher_mass, *segments = self._segments(longest, exact & ~empty, known)
        with np.errstate(divide="ignore"):  # an empty cell has the logarithm -inf
            logmass = np.log(teacher_mass / teacher_mass.sum(axis=1, keepdims=True)).astype(np.float32)
        return CellBatch(*map(torch.from_numpy, (logmass, *segments, self.order.order)))

    def _segments(
        self, longest: np.ndarray, exact: np.ndarray, masses: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        found: tuple[np.ndarray, np.ndarray, np.ndarray] = cell_segments(
            longest, exact, masses, self.parent, self.order.start, self.order.end
        )
        return found


@dataclass(frozen=True, eq=False)
class PrefixCells:
    """What two vocabularies have to do with each other, kept to find the cells of many records quickly.

    atom: int32 [Vt], for each teacher id the lowest student id of the same bytes or roles, -1 where there is none.
    longest: int32 [Vt], the same of its longest prefix that has one; its own where it has.
    """

    atom: np.ndarray
    longest: np.ndarray
    student: StudentTree

    @classmethod
    def between(cls, student: Vocabulary, teacher: Vocabulary) -> Self:
        """For records of `teacher` and a student with the vocabulary `student`."""
        atoms = PrefixAtoms.between(student, teacher)
        return cls(atoms.atom, _longest(atoms.atom, teacher.prefix_parent), StudentTree.of(student, atoms))

    def of(self, records: Records) -> CellBatch:
        """The cells of each record. Releases the interpreter's lock for most of its time.

        Where the student has no token in the rest cell, because A covers all of its tokens, it could never match the
        teacher's mass there: that mass is left out and the others are scaled to one.
        """
        rest = np.exp(records.rest_logmass, dtype=np.float64)
        masses = np.concatenate([stored_masses(records), rest[:, None]], axis=1)
        return self.student.cells(self.longest[records.topk_ids], self.atom[records.topk_ids] >= 0, masses)


def stored_masses(records: Records) -> np.ndarray:
    """Probability and hidden mass of each stored token, float64 [N, k]."""
    stored, hidden = (np.exp(part, dtype=np.float64) for part in (records.topk_logprob, records.topk_hidden_logmass))
    both: np.ndarray = stored + hidden
    return both


def _longest(atom: np.ndarray, parent: np.ndarray) -> np.ndarray:
    """`PrefixCells.longest`: one round for each length of a chain of prefixes, about as many as the longest token."""
    longest, above = atom.copy(), parent
    while (missing := (longest < 0) & (above >= 0)).any():
        longest[missing] = atom[above[missing]]
        above = np.where(above >= 0, parent[above], -1)
    return longest
