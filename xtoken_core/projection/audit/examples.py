"""Rows of a projection that a person can check: of every class and kind of row some, the ones that matter first."""

from dataclasses import dataclass

import numpy as np

from xtoken_core.projection.audit.classes import CLASSES, TokenClass
from xtoken_core.projection.audit.coverage import RowKind
from xtoken_core.projection.matrix import Projection, Rule
from xtoken_core.vocabulary import Vocabulary

EXAMPLES = 50
# Rows that are not pinned are shown in all classes before those that are.
_TURNS = (RowKind.MULTI_TOKEN, RowKind.OTHER, RowKind.EMPTY, RowKind.MULTI_TOKEN, RowKind.PAIRED, RowKind.EXACT)


@dataclass(frozen=True)
class ExampleEntry:
    """One teacher token of an example row; `teacher_text` as the tokenizer writes it."""

    teacher_id: int
    teacher_text: str
    weight: float
    rule: str


@dataclass(frozen=True)
class ProjectionExample:
    """One row of a projection in readable form; a special token has no bytes.

    occurrences: how often the token is in the text that was counted, None where none was.
    """

    student_id: int
    student_text: str
    student_bytes: bytes
    token_class: TokenClass
    occurrences: int | None
    entries: tuple[ExampleEntry, ...]


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows to choose from: `projection`, and for each student id its class, kind and occurrences (or None)."""

    projection: Projection
    classes: np.ndarray
    kinds: np.ndarray
    occurrences: np.ndarray | None


def examples_of(
    rows: Rows, student: Vocabulary, teacher: Vocabulary, count: int = EXAMPLES
) -> tuple[ProjectionExample, ...]:
    """Up to `count` rows, by class; those most frequent in text first, or where none was counted some at random."""
    chosen = sorted(_choose(rows, count), key=lambda i: (rows.classes[i], rows.kinds[i]))
    return tuple(_example(rows, i, student, teacher) for i in chosen)


def _choose(rows: Rows, count: int) -> list[int]:
    """Ids in turns: one of each class that still has a row of the turn's kind, until there are enough."""
    left: dict[tuple[TokenClass, RowKind], list[int]] = {
        (name, kind): _best(rows, np.flatnonzero((rows.classes == place) & (rows.kinds == kind)), count)
        for place, name in enumerate(CLASSES)
        for kind in RowKind
        if name != TokenClass.UNUSED
    }
    chosen: list[int] = []
    while any(left.values()) and len(chosen) < count:
        chosen += [left[name, kind].pop(0) for kind in _TURNS for name in CLASSES if left.get((name, kind))]
    return chosen[:count]


def _best(rows: Rows, ids: np.ndarray, count: int) -> list[int]:
    if rows.occurrences is None:
        return np.random.default_rng(0).permutation(ids)[:count].tolist()
    return ids[np.argsort(-rows.occurrences[ids], kind="stable")][:count].tolist()


def _example(rows: Rows, student_id: int, student: Vocabulary, teacher: Vocabulary) -> ProjectionExample:
    found = rows.projection
    columns = np.flatnonzero(found.indices[student_id] >= 0)
    entries = [
        ExampleEntry(int(i), teacher.texts[i], float(weight), Rule(rule).name.lower())
        for i, weight, rule in zip(*(part[student_id, columns] for part in _parts(found)), strict=True)
    ]
    return ProjectionExample(
        student_id=student_id,
        student_text=student.texts[student_id],
        student_bytes=student.token_bytes(student_id),
        token_class=CLASSES[rows.classes[student_id]],
        occurrences=None if rows.occurrences is None else int(rows.occurrences[student_id]),
        entries=tuple(entries),
    )


def _parts(projection: Projection) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return projection.indices, projection.weights, projection.rules
