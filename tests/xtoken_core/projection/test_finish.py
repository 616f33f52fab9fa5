import logging

import numpy as np
import pytest
from fakes import reproducible
from hypothesis import given
from hypothesis import strategies as st
from oracles_projection import finished_row

from xtoken_core.projection import ProjectionSettings, Rule
from xtoken_core.projection.entries import Entries
from xtoken_core.projection.finish import finished

ROWS, COLUMNS = 4, 6
pairs = st.tuples(st.integers(0, ROWS - 1), st.integers(0, COLUMNS - 1))
weights = st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.9, 1.0])
settings = st.builds(
    ProjectionSettings,
    top_k=st.integers(2, 8),
    min_weight=st.sampled_from([0.0, 0.15, 0.4, 1.0]),
    scale_slot=st.booleans(),
)


def entries_of(dense: dict[tuple[int, int], float], rule: Rule = Rule.REVERSE) -> Entries:
    ids = Entries.of_pairs(dense.keys(), rule)
    return Entries.of(ids.student, ids.teacher, np.array([*dense.values()]), rule)


@reproducible
@given(st.dictionaries(pairs, weights), settings)
def test_rows_are_cut_and_then_normalised(dense: dict[tuple[int, int], float], settings: ProjectionSettings) -> None:
    projection = finished(entries_of(dense), ROWS, settings)
    columns = settings.top_k - settings.scale_slot
    for i in range(ROWS):
        expected = finished_row({j: w for (s, j), w in dense.items() if s == i}, columns, settings.min_weight)
        kept = projection.indices[i] >= 0
        assert projection.indices[i][kept].tolist() == [j for j, _ in expected]
        assert projection.weights[i][kept].tolist() == pytest.approx([w for _, w in expected])
        assert kept[: len(expected)].all()
        assert set(projection.rules[i][kept]) <= {Rule.REVERSE}
    assert np.array_equal(projection.rules == Rule.EMPTY, projection.indices < 0)
    assert np.array_equal(projection.weights == 0, projection.indices < 0)
    assert projection.empty_rows.tolist() == [i for i in range(ROWS) if not any(s == i for s, _ in dense)]


def test_a_top_k_beyond_the_widest_row_makes_no_columns(caplog: pytest.LogCaptureFixture) -> None:
    dense = {(0, 1): 0.5, (0, 2): 0.5, (2, 0): 1.0}
    with caplog.at_level(logging.INFO):
        projection = finished(entries_of(dense), ROWS, ProjectionSettings(top_k=1000))
    assert projection.indices.shape == (ROWS, 2)
    assert "2 columns, not 1000" in caplog.text


def test_the_scale_slot_is_the_last_column_and_empty() -> None:
    dense = {(0, 1): 0.5, (0, 2): 0.3, (0, 3): 0.2}
    projection = finished(entries_of(dense), 1, ProjectionSettings(top_k=3, scale_slot=True))
    assert projection.indices.tolist() == [[1, 2, -1]]
    assert projection.weights[0].tolist() == pytest.approx([0.625, 0.375, 0])


def test_a_projection_of_nothing_has_one_empty_column() -> None:
    projection = finished(Entries.joined([]), ROWS, ProjectionSettings())
    assert projection.indices.tolist() == [[-1]] * ROWS
    assert len(projection.empty_rows) == ROWS


def test_equal_weights_added_up_in_another_order_tie() -> None:
    third = Entries.of(np.zeros(3), np.full(3, 5), np.array([0.1, 0.2, 0.3]), Rule.REVERSE)
    other = Entries.of(np.zeros(3), np.full(3, 2), np.array([0.3, 0.2, 0.1]), Rule.REVERSE)
    for joined in (Entries.joined([third, other]), Entries.joined([other, third])):
        assert finished(joined.merged(), 1, ProjectionSettings()).indices.tolist() == [[2, 5]]
