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
class PrefixCells:
    """What two vocabularies have to do with each other, kept to find the cells of many records quickly.

    atom: int32 [Vt], for each teacher id the lowest student id of the same bytes or roles, -1 where there is none.
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
        atoms = PrefixAtoms.between(student, teacher)
        order = PrefixOrder.of(student, atoms.canonical)
        return cls(atoms.atom, teacher.canonical, teacher.prefix_parent, order)

    def of(self, records: Records) -> CellBatch:
        """The cells of each record. Releases the interpreter's lock for most of its time.

        Where the student has no token in the rest cell, because A covers all of its tokens, it could never match the
        teacher's mass there: that mass is left out and the others are scaled to one.
        """
        parts = (records.topk_logprob, records.topk_hidden_logmass, records.rest_logmass[:, None])
        stored, hidden, rest = (np.exp(part, dtype=np.float64) for part in parts)
        masses = np.concatenate([stored + hidden, rest], axis=1)
        order = self.student_order
        teacher_mass, segment_end, segment_cell = cell_segments(
            records.topk_ids, masses, self.atom, self.canonical, self.parent, order.start, order.end
        )
        with np.errstate(divide="ignore"):  # an empty cell has the logarithm -inf
            logmass = np.log(teacher_mass / teacher_mass.sum(axis=1, keepdims=True)).astype(np.float32)
        return CellBatch(*map(torch.from_numpy, (logmass, segment_end, segment_cell, order.order)))
