"""Which tokens of two vocabularies count as equal: those of the same bytes, and special tokens that pair by role.

Such tokens are the atoms that cells of prefix_kl are made from.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from xtoken_core.roles import paired_roles
from xtoken_core.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class PrefixAtoms:
    """What each id counts as.

    atom: int32 [Vt], for each teacher id the lowest student id of the same bytes or roles, -1 where there is none.
    canonical: int32 [Vs], for each student id the lowest of the same bytes, or of roles that count as one.
    """

    atom: np.ndarray
    canonical: np.ndarray

    @classmethod
    def between(cls, student: Vocabulary, teacher: Vocabulary) -> Self:
        """Of one pair of vocabularies."""
        student_roles, teacher_roles = paired_roles(student, teacher)
        canonical, atom = student.canonical.copy(), _text_atoms(student, teacher)
        for mask in np.unique(student_roles[student_roles > 0]):
            paired = np.flatnonzero(student_roles == mask)
            canonical[paired] = atom[teacher_roles == mask] = paired[0]
        return cls(atom, canonical)


def _text_atoms(student: Vocabulary, teacher: Vocabulary) -> np.ndarray:
    atoms = np.full(teacher.size, -1, dtype=np.int32)
    for spelled, teacher_id in teacher.lookup.items():
        atoms[teacher_id] = student.lookup.get(spelled, -1)
    return atoms[teacher.canonical]
