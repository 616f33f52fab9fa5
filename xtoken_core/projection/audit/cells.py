"""The cells of prefix_kl between two whole vocabularies.

What a record stores decides how fine its cells are. Without the records of a real teacher its whole vocabulary counts
as stored: then the cells are as fine as they can be, and a token's cell is the same at every position.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from xtoken_core.prefix_atoms import PrefixAtoms
from xtoken_core.prefix_compiled import paint
from xtoken_core.prefix_order import PrefixOrder
from xtoken_core.vocabulary import Vocabulary

_REST = -1


@dataclass(frozen=True, eq=False)
class VocabularyCells:
    """The cell of each token, named by the lowest student id that spells its bytes or pairs; -1 is the rest cell.

    student: int32 [Vs]. teacher: int32 [Vt].
    """

    student: np.ndarray
    teacher: np.ndarray

    @classmethod
    def between(cls, student: Vocabulary, teacher: Vocabulary) -> Self:
        """Where every token of `teacher` is stored."""
        atoms = PrefixAtoms.between(student, teacher)
        order = PrefixOrder.of(student, atoms.canonical)
        return cls(_student_cells(atoms.atom, order), _teacher_cells(atoms.atom, teacher.prefix_parent))


def _student_cells(atom: np.ndarray, order: PrefixOrder) -> np.ndarray:
    atoms = np.unique(atom[atom >= 0])
    by_place = np.empty_like(order.order)
    paint(order.start[atoms], order.end[atoms], atoms, _REST, by_place)
    cells = np.empty_like(by_place)
    cells[order.order] = by_place
    return cells


def _teacher_cells(atom: np.ndarray, parent: np.ndarray) -> np.ndarray:
    """The first atom on each token's way up its prefixes; every round doubles the steps that all have made."""
    target = np.where(atom >= 0, np.arange(len(atom)), parent)
    while True:
        further = np.where(target >= 0, target[target], _REST)
        if np.array_equal(further, target):
            return np.where(target >= 0, atom[target], _REST).astype(np.int32)
        target = further
