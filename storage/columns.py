"""Ragged arrays <-> Arrow list columns, without copying numbers."""

import numpy as np
import pyarrow as pa

from storage.errors import StorageError
from xtoken_core.ragged import Ragged

# Arrow's list offsets are int32.
MAX_VALUES = 2**31 - 1


def single_chunk(column: pa.ChunkedArray) -> pa.Array:
    """The values as one array; what is one already is not copied (`combine_chunks` alone would)."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def to_list_array(rows: Ragged) -> pa.ListArray:
    """A list column with one list per row (StorageError if the rows hold more values than a column can)."""
    first, last = rows.offsets[0], rows.offsets[-1]
    return pa.ListArray.from_arrays(_list_offsets(rows.offsets), pa.array(rows.values[first:last]))


def from_list_column(column: pa.ChunkedArray) -> Ragged:
    """The rows of a list column; numbers stay where they are (a mapped file, read-only), booleans are unpacked."""
    array = single_chunk(column)
    offsets = array.offsets.to_numpy().astype(np.int64)
    values = array.flatten()
    is_bool = pa.types.is_boolean(values.type)
    return Ragged(values.to_numpy(zero_copy_only=not is_bool), offsets - offsets[0])


def from_string_column(column: pa.ChunkedArray) -> Ragged:
    """The UTF-8 of each string (uint8), where it lies; nulls are empty."""
    array = single_chunk(column)
    offsets = np.frombuffer(array.buffers()[1], np.int32, len(array) + 1, 4 * array.offset).astype(np.int64)
    return Ragged(np.frombuffer(array.buffers()[2] or b"", np.uint8), offsets)


def to_nested_array(values: np.ndarray, offsets: np.ndarray) -> pa.ListArray:
    """A column of lists of fixed-size lists: row i is `values[offsets[i]:offsets[i + 1]]` of `values` [total, k]."""
    flat = values[offsets[0] : offsets[-1]].reshape(-1)
    inner = pa.FixedSizeListArray.from_arrays(pa.array(flat), values.shape[1])
    return pa.ListArray.from_arrays(_list_offsets(offsets), inner)


def from_nested_column(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """`to_nested_array` backwards: values [total, k] without copying, offsets [rows + 1]."""
    array = single_chunk(column)
    offsets = array.offsets.to_numpy().astype(np.int64)
    inner = array.flatten()
    values = inner.flatten().to_numpy(zero_copy_only=True)
    return values.reshape(-1, inner.type.list_size), offsets - offsets[0]


def _list_offsets(offsets: np.ndarray) -> pa.Int32Array:
    from_zero = offsets - offsets[0]
    if from_zero[-1] > MAX_VALUES:
        raise StorageError(
            f"one shard would hold {from_zero[-1]:,} values in a column, at most {MAX_VALUES:,} fit: "
            "lower `windows.windows_per_shard`"
        )
    return pa.array(from_zero.astype(np.int32))
