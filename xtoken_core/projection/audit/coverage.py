"""What the rows of student tokens were made from, which of these the teacher has, and how much of text they are."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from xtoken_core.projection.audit.classes import CLASSES, TokenClass
from xtoken_core.projection.matrix import Projection, Rule


class RowKind(IntEnum):
    """What the first entry of a row, the heaviest, was made from."""

    EXACT = 0
    PAIRED = 1
    MULTI_TOKEN = 2
    OTHER = 3
    EMPTY = 4


_KINDS = {
    "EMPTY": RowKind.EMPTY,
    "EXACT": RowKind.EXACT,
    "SPECIAL": RowKind.PAIRED,
    "NAME": RowKind.PAIRED,
    "MULTI_TOKEN": RowKind.MULTI_TOKEN,
    "REVERSE": RowKind.MULTI_TOKEN,
}


@dataclass(frozen=True)
class RowCounts:
    """Student tokens, or their occurrences in text, by the kind of their row.

    exact: pinned to a token of the same bytes. paired: special tokens, by role or name. multi_token: spelled with the
    teacher's tokens, or a piece of them. other: by any other rule, as from embeddings. empty: no entry.
    """

    exact: int
    paired: int
    multi_token: int
    other: int
    empty: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.exact + self.paired + self.multi_token + self.other + self.empty


@dataclass(frozen=True)
class ClassCoverage:
    """The tokens of one class, and their occurrences in text where text was counted.

    uncommon, uncommon_occurrences: those of them that are not tokens of the teacher, whatever their row is made from.
    """

    token_class: TokenClass
    tokens: RowCounts
    occurrences: RowCounts | None
    uncommon: int
    uncommon_occurrences: int | None


@dataclass(frozen=True, eq=False)
class StudentTokens:
    """For each student id its `token_classes`, its `row_kinds`, whether it is common (bool), its occurrences or None.

    All [Vs].
    """

    classes: np.ndarray
    kinds: np.ndarray
    common: np.ndarray
    occurrences: np.ndarray | None


def row_kinds(projection: Projection) -> np.ndarray:
    """The `RowKind` of each row, int8 [Vs]."""
    _, rules = first_entries(projection)
    kinds = np.empty(len(rules), dtype=np.int8)
    for rule in Rule:
        kinds[rules == rule] = _KINDS.get(rule.name, RowKind.OTHER)
    return kinds


def first_entries(projection: Projection) -> tuple[np.ndarray, np.ndarray]:
    """The teacher id (int32, -1 in empty rows) and the `Rule` (int8) of each row's first entry, which is the heaviest.

    Columns without an entry are passed over, such as one that is reserved for a scale.
    """
    rows, column = np.arange(len(projection.indices)), (projection.indices >= 0).argmax(axis=1)
    teacher_ids = projection.indices[rows, column]
    return teacher_ids, np.where(teacher_ids >= 0, projection.rules[rows, column], np.int8(Rule.EMPTY))


def count_rows(kinds: np.ndarray, occurrences: np.ndarray | None = None) -> RowCounts:
    """Tokens by the kind of their row (int8 [n]), or, given the occurrences of each (int64 [n]), the sums of these."""
    sums = np.bincount(kinds, weights=occurrences, minlength=len(RowKind))
    return RowCounts(*(int(count) for count in sums))


def coverage_by_class(tokens: StudentTokens) -> tuple[ClassCoverage, ...]:
    """For each class that the student has tokens of, in the order of `TokenClass`; unused ids are no tokens."""
    found = []
    for place, name in enumerate(CLASSES):
        ids = np.flatnonzero(tokens.classes == place)
        if len(ids) and name != TokenClass.UNUSED:
            found.append(_coverage(name, ids, tokens))
    return tuple(found)


def _coverage(name: TokenClass, ids: np.ndarray, tokens: StudentTokens) -> ClassCoverage:
    kinds, uncommon, seen = tokens.kinds[ids], ids[~tokens.common[ids]], tokens.occurrences
    return ClassCoverage(
        token_class=name,
        tokens=count_rows(kinds),
        occurrences=None if seen is None else count_rows(kinds, seen[ids]),
        uncommon=len(uncommon),
        uncommon_occurrences=None if seen is None else int(seen[uncommon].sum()),
    )
