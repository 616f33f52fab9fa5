"""What losses that divide each vocabulary into common and uncommon tokens leave out."""

from dataclasses import dataclass

import numpy as np

from xtoken_core.projection.audit.coverage import first_entries
from xtoken_core.projection.matrix import Projection
from xtoken_core.projection.names import name_entries
from xtoken_core.projection.rules import special_entries
from xtoken_core.projection.settings import NameSettings
from xtoken_core.vocabulary import TokenKind, Vocabulary


@dataclass(frozen=True)
class Partition:
    """The tokens that both sides have, and the common set that the loss gold makes of a projection.

    common: student tokens that the teacher has too: of the same bytes, or paired.
    displaced: those of them that gold leaves out, because their row has other entries, or because a student token with
    a lower id has the same counterpart.
    student_uncommon, teacher_uncommon: the share of each side's text that is in other tokens; None without text.
    displaced_share: the share of the student's text that is in displaced tokens; None without text.
    """

    common: int
    displaced: int
    student_uncommon: float | None = None
    teacher_uncommon: float | None = None
    displaced_share: float | None = None


def common_tokens(student: Vocabulary, teacher: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """Which ids both sides have, bool [Vs] and bool [Vt]: of the same bytes, or special and paired by role or name.

    The vocabularies decide: the rows of a projection depend on the rules that are on, and an imported one has its own.
    """
    ours, theirs = _spelled_by(student, teacher), _spelled_by(teacher, student)
    paired = special_entries(student, teacher)
    ours[paired.student] = theirs[paired.teacher] = True
    named = name_entries(student, teacher, ~theirs, NameSettings())
    named = named.where(~ours[named.student])
    ours[named.student] = theirs[named.teacher] = True
    return ours, theirs


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


def _spelled_by(one: Vocabulary, other: Vocabulary) -> np.ndarray:
    """The ids of `one` whose bytes are a token of `other`, all of those that spell the same."""
    lowest = np.zeros(one.size, dtype=bool)
    lowest[[i for spelled, i in one.lookup.items() if spelled in other.lookup]] = True
    return lowest[one.canonical]
