"""What tokens two vocabularies, or any number of them, have in common."""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Self

import numpy as np

from xtoken_core.vocabulary import Vocabulary


@dataclass(frozen=True)
class Overlap:
    """Distinct tokens of each side and of both; `student_share` and `teacher_share` of them are shared."""

    student: int
    teacher: int
    shared: int
    student_share: float
    teacher_share: float

    @classmethod
    def raw(cls, student: Vocabulary, teacher: Vocabulary) -> Self:
        """Of token strings as the tokenizers write them, special ones included: what a tool that compares them sees."""
        return cls._of({*student.texts} - {""}, {*teacher.texts} - {""})

    @classmethod
    def by_bytes(cls, student: Vocabulary, teacher: Vocabulary) -> Self:
        """Of the bytes that tokens spell, hence without special tokens."""
        return cls._of(student.lookup.keys(), teacher.lookup.keys())

    @classmethod
    def _of(cls, student: Set[object], teacher: Set[object]) -> Self:
        shared = len(student & teacher)
        return cls(len(student), len(teacher), shared, shared / max(len(student), 1), shared / max(len(teacher), 1))


@dataclass(frozen=True, eq=False)
class OverlapMatrix:
    """How much of each vocabulary is in each other one, by bytes.

    sizes: int64 [n], distinct byte strings. shared: int64 [n, n], those of row and column both.
    """

    names: tuple[str, ...]
    sizes: np.ndarray
    shared: np.ndarray

    @property
    def shares(self) -> np.ndarray:
        """Of the row's byte strings those that the column has too, float64 [n, n]; 0 in the row of an empty one."""
        return self.shared / np.maximum(self.sizes, 1)[:, None]


def overlap_matrix(vocabularies: Mapping[str, Vocabulary]) -> OverlapMatrix:
    """The overlap of all pairs of `vocabularies`, given by name; ValueError where there is none."""
    if not vocabularies:
        raise ValueError("no vocabulary to compare: give at least one.")
    keys = [vocabulary.lookup.keys() for vocabulary in vocabularies.values()]
    shared = np.array([[len(one & other) for other in keys] for one in keys], dtype=np.int64)
    return OverlapMatrix(tuple(vocabularies), np.diagonal(shared).copy(), shared)
