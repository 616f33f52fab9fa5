"""From entries to rows of fixed width: cut first, normalised afterwards."""

import logging

import numpy as np

from xtoken_core.projection.entries import Entries, position_in_run
from xtoken_core.projection.matrix import Projection, Rule
from xtoken_core.projection.settings import ProjectionSettings

logger = logging.getLogger(__name__)

_DIGITS = 12  # equal weights added up in another order differ by some 1e-16, which must not decide


def finished(entries: Entries, n_rows: int, settings: ProjectionSettings) -> Projection:
    """The largest entries of each row, normalised; among equal weights the smaller teacher id.

    entries: one per pair of ids, weights above zero. With `settings.scale_slot` the last of `top_k` columns stays
    empty. There are no more columns than the widest row needs: a `top_k` above that makes no larger matrix.
    """
    width = settings.top_k - settings.scale_slot
    kept = _without_small(_cut(entries, width), n_rows, settings.min_weight)
    column = position_in_run(kept.student)
    widest = int(column.max(initial=0)) + 1
    if widest < width:
        logger.info("the projection has %d columns, not %d: its widest row has no more entries", widest, width)
    return _as_rows(kept, column, (n_rows, widest + settings.scale_slot))


def _cut(entries: Entries, k: int) -> Entries:
    weight = entries.weight.round(_DIGITS)
    ordered = entries.where(np.lexsort((entries.teacher, -weight, entries.student)))
    return ordered.where(position_in_run(ordered.student) < k)


def _without_small(entries: Entries, n_rows: int, min_weight: float) -> Entries:
    """Without the entries below `min_weight` of their row, the first of a row excepted."""
    total = np.bincount(entries.student, weights=entries.weight, minlength=n_rows)
    large = entries.weight >= min_weight * total[entries.student]
    return entries.where(large | (position_in_run(entries.student) == 0))


def _as_rows(entries: Entries, column: np.ndarray, shape: tuple[int, int]) -> Projection:
    total = np.bincount(entries.student, weights=entries.weight, minlength=shape[0])
    indices = np.full(shape, -1, dtype=np.int32)
    weights = np.zeros(shape, dtype=np.float32)
    rules = np.full(shape, Rule.EMPTY, dtype=np.int8)
    indices[entries.student, column] = entries.teacher
    weights[entries.student, column] = entries.weight / total[entries.student]
    rules[entries.student, column] = entries.rule
    return Projection(indices, weights, rules)
