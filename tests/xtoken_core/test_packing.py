"""Packing plans against first fit written down plainly."""

import numpy as np
import pytest
from fakes import reproducible
from hypothesis import given
from hypothesis import strategies as st

from xtoken_core.packing import pack


def plain_first_fit(lengths: np.ndarray, limits: np.ndarray) -> list[int]:
    """Try every row, one after another."""
    shares = (lengths / limits).max(axis=1)
    room: list[np.ndarray] = []
    rows = [-1] * len(lengths)
    for window in sorted(range(len(lengths)), key=lambda window: (-shares[window], window)):
        fitting = [row for row, left in enumerate(room) if (lengths[window] <= left).all()]
        rows[window] = fitting[0] if fitting else len(room)
        if not fitting:
            room.append(limits.copy())
        room[rows[window]] -= lengths[window]
    return rows


@st.composite
def plans(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Windows with lengths in up to three tokenizers, 0 where a model does not read one."""
    limits = draw(st.lists(st.integers(1, 30), min_size=1, max_size=3))
    window = st.tuples(*(st.integers(0, limit) for limit in limits))
    lengths = draw(st.lists(window, max_size=40))
    return np.array(lengths, dtype=np.int64).reshape(-1, len(limits)), np.array(limits)


@reproducible
@given(plans())
def test_a_plan_is_that_of_plain_first_fit(plan: tuple[np.ndarray, np.ndarray]) -> None:
    lengths, limits = plan
    rows = pack(lengths, limits)
    assert rows.tolist() == plain_first_fit(lengths, limits)
    assert sorted(set(rows.tolist())) == list(range(len(set(rows.tolist()))))
    for row in set(rows.tolist()):
        assert (lengths[rows == row].sum(axis=0) <= limits).all()


def test_many_windows_of_many_sizes() -> None:
    lengths = np.random.default_rng(0).integers(1, 513, (1500, 2))
    limits = np.array([512, 700])
    assert pack(lengths, limits).tolist() == plain_first_fit(lengths, limits)


def test_the_largest_share_comes_first_and_ties_as_given() -> None:
    assert pack(np.array([[4], [6], [4], [6]]), np.array([10])).tolist() == [0, 0, 1, 1]
    # 8 of 10 and 30 of 100: the first takes more of a row, whatever the numbers are
    assert pack(np.array([[0, 60], [8, 0], [3, 50]]), np.array([10, 100])).tolist() == [0, 0, 1]


def test_a_model_that_does_not_read_a_window_lends_it_no_room() -> None:
    lengths = np.array([[5, 10], [5, 0], [5, 0], [5, 10]])
    assert pack(lengths, np.array([10, 10])).tolist() == [0, 0, 1, 1]
    assert pack(lengths[:, :1], np.array([10])).tolist() == [0, 0, 1, 1]
    assert pack(np.array([[0, 0], [0, 0]]), np.array([1, 1])).tolist() == [0, 0]


def test_short_windows_fill_rows() -> None:
    lengths = np.random.default_rng(1).integers(5, 60, (2000, 1))
    rows = pack(lengths, np.array([512]))
    assert lengths.sum() / ((rows.max() + 1) * 512) > 0.98


def test_a_window_longer_than_a_row_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(AssertionError, match="longer than a row"):
        pack(np.array([[3, 9], [3, 10]]), np.array([10, 9]))
