"""What losses that divide each vocabulary into common and uncommon tokens leave out."""

from dataclasses import dataclass

import numpy as np

from xtoken_core.projection.audit.coverage import RowKind, first_entries, row_kinds
from xtoken_core.projection.matrix import Projection
from xtoken_core.vocabulary import TokenKind, Vocabulary


@dataclass(frozen=True)
class Partition:
    """The tokens that both sides have, and the common set that the loss gold makes of a projection.

    common: student tokens that the teacher has too: of the same bytes, or paired.
    displaced: those of them that gold leaves out, because a student token with a lower id has the same counterpart.
    student_uncommon, teacher_uncommon: the share of each side's text that is in other tokens; None without text.
    displaced_share: the share of the student's text that is in displaced tokens; None without text.
    """

    common: int
    displaced: int
    student_uncommon: float | None = None
    teacher_uncommon: float | None = None
    displaced_share: float | None = None


def common_tokens(projection: Projection, n_teacher: int) -> tuple[np.ndarray, np.ndarray]:
    """Which ids both sides have, bool [Vs] and bool [Vt = n_teacher]."""
    student = np.isin(row_kinds(projection), (RowKind.EXACT, RowKind.PAIRED))
    teacher_ids, _ = first_entries(projection)
    teacher = np.zeros(n_teacher, dtype=bool)
    teacher[teacher_ids[student]] = True
    return student, teacher


def gold_tokens(projection: Projection) -> np.ndarray:
    """The student ids in gold's common set, bool [Vs]: rows with one entry, of those with the same one the first."""
    teacher_ids, _ = first_entries(projection)
    rows = np.flatnonzero((projection.indices >= 0).sum(axis=1) == 1)
    _, first = np.unique(teacher_ids[rows], return_index=True)
    student = np.zeros(len(teacher_ids), dtype=bool)
    student[rows[first]] = True
    return student


def share_of_text(chosen: np.ndarray, occurrences: np.ndarray, vocabulary: Vocabulary) -> float:
    """Of all occurrences (int64 [V]) of text tokens those of `chosen` ones (bool [V])."""
    text = np.where(vocabulary.kind == TokenKind.TEXT, occurrences, 0)
    return float(text[chosen].sum() / max(text.sum(), 1))
