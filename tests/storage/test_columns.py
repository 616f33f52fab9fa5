from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.artifact import one_batch
from storage.columns import (
    MAX_VALUES,
    from_list_column,
    from_nested_column,
    from_string_column,
    to_list_array,
    to_nested_array,
)
from storage.errors import StorageError
from xtoken_core.ragged import Ragged, offsets_of

DTYPES = ["int32", "int8", "int64", "uint64", "float32", "float16", "bool"]
Rows = list[list[int]]

rows_of_small_numbers = st.lists(st.lists(st.integers(0, 100), max_size=5), max_size=8)
cuts = st.tuples(st.integers(0, 8), st.integers(0, 8)).map(sorted)


def through_file(array: pa.Array) -> pa.ChunkedArray:
    """The column as it comes out of a shard."""
    sink = pa.BufferOutputStream()
    batch = one_batch(pa.table({"column": array}))
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return pa.ipc.open_file(sink.getvalue()).read_all()["column"]


def assert_rows(found: Ragged, expected: Sequence[np.ndarray], dtype: str) -> None:
    assert found.offsets.dtype == np.int64
    assert found.offsets[0] == 0
    assert found.values.dtype == dtype
    assert [row.tolist() for row in found] == [row.tolist() for row in expected]


@given(rows_of_small_numbers, st.sampled_from(DTYPES))
def test_rows_survive_a_file(rows: Rows, dtype: str) -> None:
    ragged = Ragged.from_lists(rows, dtype)
    array = to_list_array(ragged)
    assert array.type == pa.list_(pa.from_numpy_dtype(dtype))
    assert array.to_pylist() == [row.tolist() for row in ragged]
    assert_rows(from_list_column(through_file(array)), list(ragged), dtype)


@given(rows_of_small_numbers, cuts, st.sampled_from(["int32", "bool"]))
def test_a_slice_of_a_ragged_survives_a_file(rows: Rows, cut: list[int], dtype: str) -> None:
    """Its offsets do not start at zero, and its values reach beyond its rows on both sides."""
    ragged = Ragged.from_lists(rows, dtype)
    first, last = (min(i, len(rows)) for i in cut)
    part = Ragged(ragged.values, ragged.offsets[first : last + 1])
    assert_rows(from_list_column(through_file(to_list_array(part))), list(ragged)[first:last], dtype)


@given(rows_of_small_numbers, cuts, st.sampled_from(["int32", "float16", "bool"]))
def test_a_slice_of_a_column_gives_its_rows(rows: Rows, cut: list[int], dtype: str) -> None:
    ragged = Ragged.from_lists(rows, dtype)
    column = through_file(to_list_array(ragged))
    assert_rows(from_list_column(column[cut[0] : cut[1]]), list(ragged)[cut[0] : cut[1]], dtype)


@given(rows_of_small_numbers, rows_of_small_numbers)
def test_a_column_of_several_chunks_gives_all_rows(first: Rows, second: Rows) -> None:
    parts = [Ragged.from_lists(rows, "int32") for rows in (first, second)]
    column = pa.chunked_array([to_list_array(part) for part in parts])
    assert_rows(from_list_column(column), [*parts[0], *parts[1]], "int32")


@given(rows_of_small_numbers, st.integers(1, 4), st.sampled_from(["int32", "float32", "float16"]), cuts)
def test_nested_rows_survive_a_file_and_a_slice(rows: Rows, k: int, dtype: str, cut: list[int]) -> None:
    offsets = offsets_of([len(row) for row in rows])
    values = np.arange(offsets[-1] * k).reshape(-1, k).astype(dtype)
    array = to_nested_array(values, offsets)
    assert array.type == pa.list_(pa.list_(pa.from_numpy_dtype(dtype), k))
    column = through_file(array)
    found, found_offsets = from_nested_column(column)
    assert found.dtype == dtype
    assert np.array_equal(found, values)
    assert np.array_equal(found_offsets, offsets)

    first, last = (min(i, len(rows)) for i in cut)
    part, part_offsets = from_nested_column(column[first:last])
    assert np.array_equal(part, values[offsets[first] : offsets[last]])
    assert np.array_equal(part_offsets, offsets[first : last + 1] - offsets[first])


@given(rows_of_small_numbers, st.integers(1, 4), cuts)
def test_nested_rows_may_be_a_part_of_longer_values(rows: Rows, k: int, cut: list[int]) -> None:
    offsets = offsets_of([len(row) for row in rows])
    values = np.arange(offsets[-1] * k, dtype=np.int32).reshape(-1, k)
    first, last = (min(i, len(rows)) for i in cut)
    found, found_offsets = from_nested_column(through_file(to_nested_array(values, offsets[first : last + 1])))
    assert np.array_equal(found, values[offsets[first] : offsets[last]])
    assert np.array_equal(found_offsets, offsets[first : last + 1] - offsets[first])


def test_nested_values_need_not_be_contiguous() -> None:
    values = np.arange(12, dtype=np.int32).reshape(3, 4).T
    found, _ = from_nested_column(through_file(to_nested_array(values, np.array([0, 1, 4]))))
    assert np.array_equal(found, values)


@pytest.mark.parametrize("offsets", [[0, MAX_VALUES + 1], [5, 6, MAX_VALUES + 6]])
def test_more_values_than_a_column_holds_name_the_setting(offsets: list[int]) -> None:
    bounds = np.array(offsets, dtype=np.int64)
    remedy = r"2,147,483,648 values in a column, at most 2,147,483,647 fit: lower `windows.windows_per_shard`"
    with pytest.raises(StorageError, match=remedy):
        to_list_array(Ragged(np.empty(0, np.int32), bounds))
    with pytest.raises(StorageError, match=remedy):
        to_nested_array(np.empty((0, 4), np.int32), bounds)


def test_offsets_beyond_int32_are_fine_for_a_slice() -> None:
    part = Ragged(np.empty(0, np.int32), np.array([2**40, 2**40, 2**40]))
    assert to_list_array(part).to_pylist() == [[], []]


@pytest.mark.parametrize("dtype", ["int32", "float16"])
def test_numbers_are_not_copied(dtype: str) -> None:
    ragged = Ragged.from_lists([[1, 2], [], [3]], dtype)
    array = to_list_array(ragged)
    assert np.shares_memory(array.values.to_numpy(), ragged.values)
    assert np.shares_memory(from_list_column(pa.chunked_array([array])).values, ragged.values)


def test_nested_numbers_are_not_copied() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    found, _ = from_nested_column(pa.chunked_array([to_nested_array(values, np.array([0, 3]))]))
    assert np.shares_memory(found, values)


@given(st.lists(st.none() | st.text(max_size=8), max_size=8), cuts)
def test_strings_are_their_utf_8_where_it_lies(texts: list[str | None], cut: list[int]) -> None:
    column = through_file(pa.array(texts, pa.string())).slice(cut[0], cut[1] - cut[0])
    found = from_string_column(column)
    assert [row.tobytes().decode() for row in found] == [text or "" for text in texts[slice(*cut)]]
