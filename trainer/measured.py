"""What is measured in a step, summed over its micro-batches and workers as each quantity declares it."""

from collections.abc import Sequence

import numpy as np

from trainer.group import Group
from trainer.metrics import Reduction, reduction_of
from xtoken_core.losses.fast.blocks import Computed
from xtoken_core.losses.sums import Measure

_GRADIENT = "gradient_share"  # its squares are summed here
_NAMES = ("kd", *Measure, _GRADIENT)


class Measured:
    """Totals and counts of each quantity for each loss: the same list on every rank, whatever it has."""

    def __init__(self, losses: int) -> None:
        self._sums = np.zeros((2, losses, len(_NAMES)))  # totals, then counts

    def add(self, losses: Sequence[int], computed: Computed) -> None:
        """Add a micro-batch, whose terms are `losses`, by index."""
        for loss, sums in zip(losses, computed.sums, strict=True):
            self._add(loss, "kd", float(sums.loss.total), int(sums.loss.count))
            for measure, value in sums.measures.items():
                self._add(loss, measure, float(value.total), int(value.count))
        if computed.gradient_norms is not None:
            for loss, norm in zip(losses, computed.gradient_norms.tolist(), strict=True):
                self._add(loss, _GRADIENT, norm**2, 1)

    def reduce(self, group: Group) -> None:
        """Make the sums those of all workers; every rank calls it."""
        self._sums = group.sum(self._sums)

    def value(self, loss: int, name: str) -> float | None:
        """The quantity of one loss, reduced as its field of `Metrics` says; None where nothing was measured."""
        total, count = self._sums[:, loss, _NAMES.index(name)]
        if not count:
            return None
        return float(total / count if reduction_of(name) == Reduction.MEAN else total)

    def means(self) -> np.ndarray:
        """Each loss divided by its items, float64 [losses]; zero for none."""
        return self._sums[0, :, 0] / np.maximum(self._sums[1, :, 0], 1)

    def gradient_shares(self) -> np.ndarray | None:
        """The norm of each loss's gradient of the logits, divided by their sum; None where that was not measured."""
        squares, counts = self._sums[:, :, _NAMES.index(_GRADIENT)]
        norms = np.sqrt(squares)
        return norms / norms.sum() if counts.any() and norms.sum() else None

    def _add(self, loss: int, name: str, total: float, count: int) -> None:
        self._sums[:, loss, _NAMES.index(name)] += total, count
