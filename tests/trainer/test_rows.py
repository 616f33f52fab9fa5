import numpy as np
import torch
from fakes import reproducible
from hypothesis import given
from hypothesis import strategies as st

from trainer.rows import lay_out
from xtoken_core.ragged import Ragged


def test_windows_stand_one_after_another_in_their_rows() -> None:
    ids = Ragged.from_lists([[7, 8, 9], [4, 5], [6]], np.int32)
    found = lay_out(ids, np.array([0, 0, 1]), torch.tensor([1, 3, 5]))
    assert found.ids.tolist() == [[7, 8, 9, 4, 5], [6, 0, 0, 0, 0]]
    assert found.position_ids is not None
    assert found.position_ids.tolist() == [[0, 1, 2, 0, 1], [0, 0, 0, 0, 0]]
    assert (found.row.tolist(), found.position.tolist()) == ([0, 0, 1], [1, 3, 0])


def test_rows_of_one_window_need_no_position_ids() -> None:
    found = lay_out(Ragged.from_lists([[7, 8, 9], [4]], np.int32), np.array([0, 1]), torch.tensor([3]))
    assert found.ids.tolist() == [[7, 8, 9], [4, 0, 0]]
    assert found.position_ids is None
    assert (found.row.tolist(), found.position.tolist()) == ([1], [0])


@reproducible
@given(st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=1, max_size=12))
def test_every_token_is_where_its_place_says(windows: list[tuple[int, bool]]) -> None:
    lengths, begins = zip(*windows, strict=True)
    ids = Ragged.from_lists(np.split(1 + np.arange(sum(lengths)), np.cumsum(lengths)[:-1]), np.int32)
    row = np.cumsum([0, *begins[1:]])
    found = lay_out(ids, row, torch.arange(sum(lengths)))
    assert found.ids[found.row, found.position].tolist() == ids.values.tolist()
    assert found.row.tolist() == np.repeat(row, lengths).tolist()
    assert (found.ids > 0).sum() == sum(lengths)
    assert found.ids.shape[1] == max(np.bincount(row, weights=lengths))
    if found.position_ids is not None:
        expected = [position for length in lengths for position in range(length)]
        assert found.position_ids[found.row, found.position].tolist() == expected
