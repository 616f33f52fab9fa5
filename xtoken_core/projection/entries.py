"""Entries of a sparse matrix in coordinate form."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from xtoken_core.projection.matrix import Rule


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
    def of_pairs(cls, pairs: Iterable[tuple[int, int]], rule: Rule) -> Self:
        """Pairs (student id, teacher id) with weight one."""
        ids = np.array([*pairs], dtype=np.int64).reshape(-1, 2)
        return cls.of(ids[:, 0], ids[:, 1], 1.0, rule)

    @classmethod
    def joined(cls, parts: Iterable[Self]) -> Self:
        """All entries of `parts` in a row."""
        none = cls.of(np.empty(0), np.empty(0), 1.0, Rule.EMPTY)
        columns = [(part.student, part.teacher, part.weight, part.rule) for part in (none, *parts)]
        return cls(*(np.concatenate(column) for column in zip(*columns, strict=True)))

    def where(self, keep: np.ndarray) -> Self:
        """The entries that `keep` (a mask or positions) selects."""
        return type(self)(self.student[keep], self.teacher[keep], self.weight[keep], self.rule[keep])

    def times(self, factor: float) -> Self:
        """The same entries with `factor` as heavy weights."""
        return replace(self, weight=self.weight * factor)

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


def run_starts(*keys: np.ndarray) -> np.ndarray:
    """Where, in sorted keys of equal length, each run of equal keys begins."""
    changed = np.ones(len(keys[0]), dtype=bool)
    changed[1:] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    return np.flatnonzero(changed)


def position_in_run(key: np.ndarray) -> np.ndarray:
    """How many equal values stand before each value in its run: [5, 5, 7] -> [0, 1, 0]."""
    starts = run_starts(key)
    return np.arange(len(key)) - np.repeat(starts, np.diff(starts, append=len(key)))
