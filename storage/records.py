"""Teacher records <-> rows of a cache shard."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from storage.columns import from_list_column, from_nested_column, to_list_array, to_nested_array
from storage.schemas import cache_schema
from xtoken_core.ragged import Ragged
from xtoken_core.topk import Records

KIND = "cache"
_PER_POSITION = ("rest_logmass", "next_logprob", "logsumexp", "entropy")


def records_table(window_ids: np.ndarray, ids_hashes: np.ndarray, offsets: np.ndarray, records: Records) -> pa.Table:
    """The rows of one shard.

    Args:
        window_ids, ids_hashes: uint64 [rows].
        offsets: int64 [rows + 1]; row i owns the positions `offsets[i]:offsets[i + 1]` of `records`.
        records: as a codec stores them (see `xtoken_core.topk.encode`).
    """
    stored = pa.from_numpy_dtype(records.topk_logprob.dtype)
    columns = [
        pa.array(window_ids, pa.uint64()),
        pa.array(np.diff(offsets), pa.int32()),
        pa.array(ids_hashes, pa.uint64()),
        to_nested_array(records.topk_ids, offsets),
        to_nested_array(records.topk_logprob, offsets),
        to_nested_array(records.topk_hidden_logmass, offsets),
        *(to_list_array(Ragged(getattr(records, name), offsets)) for name in _PER_POSITION),
    ]
    return pa.table(columns, schema=cache_schema(records.topk_ids.shape[1], stored))


@dataclass(frozen=True)
class StoredRecords:
    """One mapped cache shard: rows of windows, their positions one after another."""

    window_ids: np.ndarray  # uint64 [rows]
    ids_hashes: np.ndarray  # uint64 [rows]
    offsets: np.ndarray  # int64 [rows + 1] into the positions of `records`
    records: Records  # as stored: decode after taking

    @classmethod
    def from_table(cls, table: pa.Table) -> "StoredRecords":
        """Map the columns of a shard; nothing is copied."""
        topk_ids, offsets = from_nested_column(table["topk_ids"])
        records = Records(
            topk_ids=topk_ids,
            topk_logprob=from_nested_column(table["topk_logprob"])[0],
            topk_hidden_logmass=from_nested_column(table["topk_hidden_logmass"])[0],
            **{name: from_list_column(table[name]).values for name in _PER_POSITION},
        )
        return cls(table["window_id"].to_numpy(), table["ids_hash"].to_numpy(), offsets, records)

    def take(self, rows: np.ndarray, positions: np.ndarray) -> Records:
        """The stored records at `positions` (token indices) of `rows`, both [n]; copied out of the file.

        Raises:
            IndexError: for a position outside its row, where a neighbour's record would be returned.
        """
        self._require_within(rows, positions)
        return self.records.take(self.offsets[rows] + positions)

    def _require_within(self, rows: np.ndarray, positions: np.ndarray) -> None:
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        outside = np.flatnonzero((positions < 0) | (positions >= lengths))
        if len(outside):
            row, position, length = rows[outside[0]], positions[outside[0]], lengths[outside[0]]
            raise IndexError(
                f"position {position} of window {self.window_ids[row]} (row {row} of its shard) was asked for, and the "
                f"cache has records of {length} tokens: it was made from other token ids; run `xtoken cache-teacher` "
                "with the config that the alignment was made from"
            )
