"""The sparse matrix W from student tokens to teacher tokens, and what it is built by."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np


class Rule(IntEnum):
    """Which rule made an entry."""

    EMPTY = -1  # no entry
    EXACT = 0  # both tokens spell the same bytes
    MULTI_TOKEN = 1  # the teacher's token is a piece of the student's
    REVERSE = 2  # the student's token is a piece of the teacher's
    SPECIAL = 3  # both are special tokens with the same role


@dataclass(frozen=True)
class ProjectionSettings:
    """What determines a projection beside its two tokenizers.

    top_k: entries kept of a row. max_pieces: pieces of a split token that get a weight. reverse: whether teacher tokens
    that are split by the student give entries too. ValueError where top_k or max_pieces is below one.
    """

    top_k: int = 4
    max_pieces: int = 4
    reverse: bool = True

    def __post_init__(self) -> None:
        for name in ("top_k", "max_pieces"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")


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
