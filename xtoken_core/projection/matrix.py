"""The sparse matrix W from student tokens to teacher tokens."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np


class Rule(IntEnum):
    """Which rule made an entry; of several rules that made the same one, the first of these."""

    EMPTY = -1  # no entry
    EXACT = 0  # both tokens spell the same bytes
    MULTI_TOKEN = 1  # the teacher's token is a piece of the student's
    REVERSE = 2  # the student's token is a piece of the teacher's
    SPECIAL = 3  # both are special tokens with the same role or the same name
    NAME = 4  # both are special tokens with similar names
    NEAREST = 5  # the vectors of both tokens lie close together
    COOCCURRENCE = 6  # both tokens begin the same chunks of a real text
    IMPORTED = 7  # read from a file that does not say


@dataclass(frozen=True, eq=False)
class Projection:
    """W with a row per student id, k entries each, by falling weight; a row sums to one or is empty.

    indices: int32 [Vs, k], teacher ids, -1 where there is no entry.
    weights: float32 [Vs, k], 0 there.
    rules: int8 [Vs, k] of `Rule`, EMPTY there.
    """

    indices: np.ndarray
    weights: np.ndarray
    rules: np.ndarray

    @property
    def has_scale_slot(self) -> bool:
        """Whether the last column is no token's, but free for a learned weight of the row."""
        return self.indices.shape[1] > 1 and bool((self.indices[:, -1] < 0).all())

    @property
    def empty_rows(self) -> np.ndarray:
        """The student ids that project to nothing, int64."""
        return np.flatnonzero((self.indices < 0).all(axis=1))
