"""What a projection covers, to be read before any compute is spent on it."""

from dataclasses import dataclass

import numpy as np

from xtoken_core.projection.matrix import Projection, Rule
from xtoken_core.vocabulary import Vocabulary

_EXAMPLES = 20


@dataclass(frozen=True)
class ExampleEntry:
    """One teacher token of an example row; `teacher_text` as the tokenizer writes it."""

    teacher_text: str
    weight: float
    rule: Rule


@dataclass(frozen=True)
class ProjectionExample:
    """One row of a projection in readable form; a special token has no bytes."""

    student_text: str
    student_bytes: bytes
    entries: tuple[ExampleEntry, ...]


@dataclass(frozen=True)
class ProjectionAudit:
    """Counts over the student's ids; the four kinds of rows add up to all of them.

    overlap: byte strings that both vocabularies have; overlap_share: their share of the student's byte strings.
    rows_exact, rows_special: rows pinned to one teacher token by its bytes or its role. rows_multi_token: rows made by
    splitting tokens, in either direction. rows_empty: ids that project to nothing.
    examples: up to 20 rows, most of them split, spread evenly over the vocabulary.
    """

    overlap: int
    overlap_share: float
    rows_exact: int
    rows_multi_token: int
    rows_special: int
    rows_empty: int
    examples: tuple[ProjectionExample, ...]


def audit(projection: Projection, student: Vocabulary, teacher: Vocabulary) -> ProjectionAudit:
    """Counts and examples of the projection from `student` to `teacher`."""
    rule = projection.rules[:, 0]
    is_split = (rule == Rule.MULTI_TOKEN) | (rule == Rule.REVERSE)
    overlap = len(student.lookup.keys() & teacher.lookup.keys())
    shown = np.concatenate(
        [
            _spread(np.flatnonzero(rule == Rule.SPECIAL), _EXAMPLES // 10),
            _spread(np.flatnonzero(rule == Rule.EXACT), _EXAMPLES // 5),
            _spread(np.flatnonzero(is_split), _EXAMPLES - _EXAMPLES // 10 - _EXAMPLES // 5),
        ]
    )
    return ProjectionAudit(
        overlap=overlap,
        overlap_share=overlap / max(len(student.lookup), 1),
        rows_exact=int(np.count_nonzero(rule == Rule.EXACT)),
        rows_multi_token=int(np.count_nonzero(is_split)),
        rows_special=int(np.count_nonzero(rule == Rule.SPECIAL)),
        rows_empty=int(np.count_nonzero(rule == Rule.EMPTY)),
        examples=tuple(_example(projection, student, teacher, student_id) for student_id in shown.tolist()),
    )


def _spread(ids: np.ndarray, count: int) -> np.ndarray:
    """Up to `count` of `ids` at even distances."""
    return ids[np.unique(np.linspace(0, len(ids) - 1, min(count, len(ids))).astype(np.int64))]


def _example(projection: Projection, student: Vocabulary, teacher: Vocabulary, student_id: int) -> ProjectionExample:
    row = zip(projection.indices[student_id], projection.weights[student_id], projection.rules[student_id], strict=True)
    entries = [ExampleEntry(teacher.texts[i], float(weight), Rule(rule)) for i, weight, rule in row if i >= 0]
    return ProjectionExample(student.texts[student_id], student.token_bytes(student_id), tuple(entries))
