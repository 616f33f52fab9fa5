"""How much of what a training reads would be tokens and not padding, with and without packing."""

from dataclasses import dataclass

import numpy as np

from flows.report.prepare_counts import Model
from storage.columns import from_list_column
from xtoken_core.packing import pack

_WINDOWS = 16_384  # of the corpus, evenly spread
_STEPS = 64  # at most, drawn at random from these


@dataclass(frozen=True)
class Packing:
    """The share of tokens in rows of one size of batch; the rest is padding.

    models: whose rows they are; several share one plan, in lockstep.
    """

    models: tuple[str, ...]
    batch_windows: int
    unpacked: float
    packed: float


def packing_of(models: tuple[Model, ...], batches: tuple[int, ...], micro_batch: int) -> tuple[Packing, ...]:
    """For each size of batch: of rows in micro-batches of `micro_batch`, the longest windows first.

    Windows that the first model does not read are left out; another that does not read one needs no room for it. No
    result for a batch larger than the sample.
    """
    lengths = _sample(models)
    names = tuple(model.name for model in models)
    found = ((batch, _steps(lengths, batch)) for batch in batches if batch <= len(lengths))
    return tuple(
        Packing(names, batch, _efficiency(steps, micro_batch, False), _efficiency(steps, micro_batch, True))
        for batch, steps in found
    )


def _sample(models: tuple[Model, ...]) -> np.ndarray:
    """Tokens of some windows by each model, int64 [windows, models]."""
    shards = models[0].tokens.manifest.shards
    every = max(sum(shard.rows for shard in shards) // _WINDOWS, 1)
    parts = [_lengths(models, index)[::every] for index in range(len(shards))]
    lengths = np.concatenate([np.empty((0, len(models)), np.int64), *parts])
    limits = np.array([model.max_length for model in models])
    lengths = np.where(lengths <= limits, lengths, 0)
    return lengths[lengths[:, 0] > 0]


def _lengths(models: tuple[Model, ...], index: int) -> np.ndarray:
    return np.stack([from_list_column(model.tokens.table(index)["ids"]).lengths for model in models], axis=1)


def _steps(lengths: np.ndarray, batch: int) -> list[np.ndarray]:
    order = np.random.default_rng(0).permutation(len(lengths))
    return [lengths[order[at : at + batch]] for at in range(0, len(order) - batch + 1, batch)][:_STEPS]


def _efficiency(steps: list[np.ndarray], micro_batch: int, packed: bool) -> float:
    padded = sum(_padded(step, micro_batch, packed) for step in steps)
    return float(sum(int(step.sum()) for step in steps) / padded)


def _padded(lengths: np.ndarray, micro_batch: int, packed: bool) -> int:
    """Tokens and padding of one step: in a micro-batch all rows are as long as the longest, for each model."""
    lengths = lengths[np.argsort(-lengths.max(axis=1), kind="stable")]
    rows = pack(lengths, np.maximum(lengths.max(axis=0), 1)) if packed else np.arange(len(lengths))
    filled = np.zeros((rows.max() + 1, lengths.shape[1]), dtype=np.int64)
    np.add.at(filled, rows, lengths)
    parts = (filled[at : at + micro_batch] for at in range(0, len(filled), micro_batch))
    return sum(int((len(part) * part.max(axis=0)).sum()) for part in parts)
