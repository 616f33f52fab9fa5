"""Which windows a step trains on: a pure function of (seed, step), so that a resumed run needs no data state.

The windows form an endless stream, one permutation of all of them after another; a step takes the next
`batch_windows` of it.
"""

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=2)  # a step touches two epochs at most, unless an epoch is shorter than a step
def epoch_order(seed: int, epoch: int, windows: int) -> np.ndarray:
    """The order of epoch `epoch`: a permutation of range(windows)."""
    return np.random.default_rng([seed, epoch]).permutation(windows)


def windows_of_step(seed: int, step: int, batch_windows: int, windows: int) -> np.ndarray:
    """The windows of step `step`, which counts from 1: indices into the training windows, int64 [batch_windows]."""
    stream = np.arange((step - 1) * batch_windows, step * batch_windows)
    epochs, places = np.divmod(stream, windows)
    parts = [epoch_order(seed, int(epoch), windows)[places[epochs == epoch]] for epoch in np.unique(epochs)]
    return np.concatenate(parts)


def share_of(indices: np.ndarray, rank: int, world_size: int) -> np.ndarray:
    """The contiguous share of `indices` that one of `world_size` workers takes."""
    return np.array_split(indices, world_size)[rank]
