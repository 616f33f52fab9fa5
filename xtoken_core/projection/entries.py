"""Entries of a sparse matrix in coordinate form, and their way into rows of fixed width."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np

from xtoken_core.projection.matrix import Projection, Rule


@dataclass(frozen=True, eq=False)
class Entries:
    """One value each per entry: the ids (int64), the weight (float64) and the `Rule` (int8)."""

    student: np.ndarray
    teacher: np.ndarray
    weight: np.ndarray
    rule: np.ndarray

    @classmethod
    def of(cls, student: np.ndarray, teacher: np.ndarray, weight: np.ndarray | float, rule: Rule) -> Self:
        """Entries that one rule made."""
        student, teacher = np.asarray(student, dtype=np.int64), np.asarray(teacher, dtype=np.int64)
        weight = np.broadcast_to(np.asarray(weight, dtype=np.float64), student.shape)
        return cls(student, teacher, weight, np.full(len(student), rule, dtype=np.int8))

    @classmethod
    def joined(cls, parts: Iterable[Self]) -> Self:
        """All entries of `parts` in a row."""
        columns = [(part.student, part.teacher, part.weight, part.rule) for part in parts]
        return cls(*(np.concatenate(column) for column in zip(*columns, strict=True)))

    def where(self, keep: np.ndarray) -> Self:
        """The entries that `keep` (a mask or positions) selects."""
        return type(self)(self.student[keep], self.teacher[keep], self.weight[keep], self.rule[keep])

    def merged(self) -> Self:
        """One entry per pair of ids: weights summed, the rule being the first in the order of `Rule`."""
        ordered = self.where(np.lexsort((self.rule, self.teacher, self.student)))
        first = run_starts(ordered.student, ordered.teacher)
        if not len(first):
            return ordered
        return type(self)(
            ordered.student[first],
            ordered.teacher[first],
            np.add.reduceat(ordered.weight, first),
            ordered.rule[first],
        )

    def to_rows(self, n_rows: int, k: int) -> Projection:
        """The k largest entries of each row, then normalised; among equal weights the smaller teacher id."""
        ordered = self.where(np.lexsort((self.teacher, -self.weight, self.student)))
        rank = position_in_run(ordered.student)
        kept, column = ordered.where(rank < k), rank[rank < k]
        indices = np.full((n_rows, k), -1, dtype=np.int32)
        weights = np.zeros((n_rows, k), dtype=np.float64)
        rules = np.full((n_rows, k), Rule.EMPTY, dtype=np.int8)
        indices[kept.student, column] = kept.teacher
        weights[kept.student, column] = kept.weight
        rules[kept.student, column] = kept.rule
        total = weights.sum(axis=1, keepdims=True)
        weights /= np.where(total > 0, total, 1)
        return Projection(indices, weights.astype(np.float32), rules)


def run_starts(*keys: np.ndarray) -> np.ndarray:
    """Where, in sorted keys of equal length, each run of equal keys begins."""
    changed = np.ones(len(keys[0]), dtype=bool)
    changed[1:] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    return np.flatnonzero(changed)


def position_in_run(key: np.ndarray) -> np.ndarray:
    """How many equal values stand before each value in its run: [5, 5, 7] -> [0, 1, 0]."""
    starts = run_starts(key)
    return np.arange(len(key)) - np.repeat(starts, np.diff(starts, append=len(key)))
