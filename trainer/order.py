"""Which windows a step trains on: a pure function of (seed, step), so that a resumed run needs no data state.

The windows form an endless stream, one epoch after another; a step takes the next `batch_windows` of it. An epoch is a
permutation of all windows, or with a `Mixture` of what it takes of them.
"""

from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Self

import numpy as np


@dataclass(frozen=True, eq=False)
class Mixture:
    """How often an epoch takes each window: groups of windows with a weight each.

    An epoch takes every window of a group as often as the whole part of the weight says, and a random share of them
    once more, as many as bring the group to n * weight windows an epoch; what rounding leaves of that is made up for
    in later epochs. So after e epochs exactly floor(e * n * weight) windows of the group have been taken, and where a
    step stands in its epoch is known without drawing the epochs before it.

    groups: int64 arrays of window numbers, disjoint. weights: one for each group, at least 0.
    """

    groups: tuple[np.ndarray, ...]
    weights: tuple[Fraction, ...]

    @classmethod
    def even(cls, windows: int) -> Self:
        """Every window once an epoch."""
        return cls((np.arange(windows),), (Fraction(1),))

    @property
    def epoch_windows(self) -> float:
        """How many windows an epoch takes on average."""
        return float(sum(self._sizes()))

    def taken_before(self, epoch: int) -> int:
        """How many windows all epochs before `epoch` take."""
        return sum(int(epoch * size) for size in self._sizes())

    def epoch_at(self, place: int) -> int:
        """The epoch that the stream is in at `place`, which counts from 0."""
        after = int((place + len(self.groups)) / sum(self._sizes())) + 1  # rounding takes less than one off each group
        return bisect_right(range(after + 1), place, key=self.taken_before) - 1

    def draw(self, epoch: int, generator: np.random.Generator) -> np.ndarray:
        """The windows that `epoch` takes, in ascending order."""
        parts = []
        for windows, size in zip(self.groups, self._sizes(), strict=True):
            taken = int((epoch + 1) * size) - int(epoch * size)
            times, more = divmod(taken, max(len(windows), 1))
            parts += [*[windows] * times, windows[generator.permutation(len(windows))[:more]]]
        return np.sort(np.concatenate(parts))

    def _sizes(self) -> list[Fraction]:
        """How many windows an epoch takes of each group, before rounding."""
        return [len(windows) * weight for windows, weight in zip(self.groups, self.weights, strict=True)]


@lru_cache(maxsize=2)  # a step touches two epochs at most, unless an epoch is shorter than a step
def epoch_order(seed: int, epoch: int, mixture: Mixture) -> np.ndarray:
    """The windows of epoch `epoch` in their order, int64."""
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(mixture.taken_before(epoch + 1) - mixture.taken_before(epoch))
    return mixture.draw(epoch, generator)[order]


def windows_of_step(seed: int, step: int, batch_windows: int, mixture: Mixture) -> np.ndarray:
    """The windows of step `step`, which counts from 1: numbers of training windows, int64 [batch_windows]."""
    first, end = (step - 1) * batch_windows, step * batch_windows
    parts = []
    for epoch in range(mixture.epoch_at(first), mixture.epoch_at(end - 1) + 1):
        begins = mixture.taken_before(epoch)
        parts.append(epoch_order(seed, epoch, mixture)[max(first - begins, 0) : end - begins])
    return np.concatenate(parts)


def share_of(indices: np.ndarray, rank: int, world_size: int) -> np.ndarray:
    """The contiguous share of `indices` that one of `world_size` workers takes."""
    return np.array_split(indices, world_size)[rank]
