"""Which student tokens have a row in the projection, what it was made from, and how much of real text they are."""

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from enum import IntEnum
from typing import Self

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

    exact: the teacher has a token of the same bytes. paired: special tokens, by role or name. multi_token: the token is
    split into the teacher's, or a piece of them. other: by any other rule, as from embeddings. empty: no entry.
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

    @property
    def without_counterpart(self) -> int:
        """Those that stand for no one token of the teacher."""
        return self.multi_token + self.other + self.empty

    @classmethod
    def total_of(cls, parts: Iterable[Self]) -> Self:
        """The sums of `parts`."""
        sums = zip(*((0, 0, 0, 0, 0), *(astuple(part) for part in parts)), strict=True)
        return cls(*map(sum, sums))


@dataclass(frozen=True)
class ClassCoverage:
    """The tokens of one class, and their occurrences in text where text was counted."""

    token_class: TokenClass
    tokens: RowCounts
    occurrences: RowCounts | None


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


def coverage_by_class(
    classes: np.ndarray, kinds: np.ndarray, occurrences: np.ndarray | None
) -> tuple[ClassCoverage, ...]:
    """For each class that the student has tokens of, in the order of `TokenClass`; unused ids are no tokens.

    classes: `token_classes`. kinds: `row_kinds`. occurrences: int64 [Vs].
    """
    found = []
    for place, name in enumerate(CLASSES):
        ids = np.flatnonzero(classes == place)
        if len(ids) and name != TokenClass.UNUSED:
            weighted = None if occurrences is None else count_rows(kinds[ids], occurrences[ids])
            found.append(ClassCoverage(name, count_rows(kinds[ids]), weighted))
    return tuple(found)
