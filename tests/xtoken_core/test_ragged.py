import numpy as np
import pytest

from xtoken_core.ragged import Ragged


def test_rows_come_back_in_order() -> None:
    ragged = Ragged.from_lists([[1, 2], [], [3]], np.int32)
    assert [row.tolist() for row in ragged] == [[1, 2], [], [3]]
    assert ragged.lengths.tolist() == [2, 0, 1]
    assert ragged.values.dtype == np.int32


def test_no_rows() -> None:
    ragged = Ragged.from_lists([], np.int8)
    assert len(ragged) == 0
    assert list(ragged) == []


def test_row_is_a_view() -> None:
    ragged = Ragged.from_lists([[1], [2, 3]], np.int64)
    ragged.row(1)[0] = 7
    assert ragged.values.tolist() == [1, 7, 3]


def test_offsets_need_not_start_at_zero() -> None:
    ragged = Ragged(np.arange(10), np.array([4, 6, 9]))
    assert [row.tolist() for row in ragged] == [[4, 5], [6, 7, 8]]


@pytest.mark.parametrize("row", [-1, 1])
def test_a_row_that_is_not_there(row: int) -> None:
    with pytest.raises(IndexError, match="1 rows"):
        Ragged.from_lists([[1]], np.int64).row(row)
