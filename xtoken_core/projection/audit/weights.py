"""How the weights of a projection are distributed: many small ones say that rows are guesses."""

from dataclasses import dataclass

import numpy as np

from xtoken_core.projection.matrix import Projection

BINS = 20


@dataclass(frozen=True)
class WeightHistogram:
    """counts: entries by weight, from i / BINS up to before (i + 1) / BINS. ones: entries that are all of their row.

    per_row: rows by their number of entries, from 0 on.
    """

    counts: tuple[int, ...]
    ones: int
    per_row: tuple[int, ...]


def weight_histogram(projection: Projection) -> WeightHistogram:
    """Of all entries; what a reserved column holds is none."""
    filled = projection.indices >= 0
    weights = projection.weights[filled]
    below = weights[weights < 1]
    # In float32 the product is rounded to the number that begins a bin, which 0.9 alone is just below.
    counts = np.bincount(np.minimum((below * BINS).astype(np.int64), BINS - 1), minlength=BINS)
    per_row = np.bincount(filled.sum(axis=1), minlength=filled.shape[1] + 1)
    return WeightHistogram(tuple(counts.tolist()), len(weights) - len(below), tuple(per_row.tolist()))
