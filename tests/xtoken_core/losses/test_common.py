"""Which tokens two vocabularies have in common by a projection, against brute force."""

import pytest
import torch
from fakes import reproducible
from hypothesis import given
from hypothesis import strategies as st

from xtoken_core.losses.columns import column_maxima, likeliest
from xtoken_core.losses.common import ProjectionTensors, common_tokens

TEACHER_SIZE = 4
ENTRIES = st.tuples(st.integers(-1, TEACHER_SIZE - 1), st.sampled_from([0.25, 0.6, 0.75, 1.0]))
ROWS = st.lists(st.tuples(ENTRIES, ENTRIES), min_size=1, max_size=6)
Row = tuple[tuple[int, float], ...]


def projection_of(rows: list[Row]) -> ProjectionTensors:
    return ProjectionTensors(
        torch.tensor([[teacher for teacher, _ in row] for row in rows]),
        torch.tensor([[weight if teacher >= 0 else 0.0 for teacher, weight in row] for row in rows]),
    )


def pairs_by_brute_force(rows: list[Row], threshold: float | None) -> list[tuple[int, int]]:
    """Every row in the order in which it is served takes its teacher id, unless that is taken."""
    wanting = []
    for student, row in enumerate(rows):
        entries = [(weight, -slot, teacher) for slot, (teacher, weight) in enumerate(row) if teacher >= 0]
        if not entries:
            continue
        weight, _, teacher = max(entries)
        fits = weight == 1.0 and row[1][0] == -1 if threshold is None else torch.tensor(weight) >= threshold
        if fits:
            wanting.append((-weight, student, teacher))
    taken: dict[int, int] = {}
    for _, student, teacher in sorted(wanting):
        taken.setdefault(teacher, student)
    return sorted((student, teacher) for teacher, student in taken.items())


@reproducible
@given(ROWS, st.sampled_from([None, 0.6, 0.7]), st.integers(0, 2))
def test_the_pairs_are_those_of_brute_force_and_the_rest_is_everything_else(
    rows: list[Row], threshold: float | None, more: int
) -> None:
    common = common_tokens(projection_of(rows), len(rows) + more, TEACHER_SIZE, threshold)
    pairs = list(zip(common.student_ids.tolist(), common.teacher_ids.tolist(), strict=True))
    assert pairs == pairs_by_brute_force(rows, threshold)
    students, teachers = {pair[0] for pair in pairs}, {pair[1] for pair in pairs}
    assert common.student_rest.tolist() == [i for i in range(len(rows) + more) if i not in students]
    assert common.teacher_rest.tolist() == [i for i in range(TEACHER_SIZE) if i not in teachers]
    assert (common.student_size, common.teacher_size) == (len(rows) + more, TEACHER_SIZE)


def test_a_row_of_one_entry_has_no_second_one() -> None:
    projection = ProjectionTensors(torch.tensor([[2], [0]]), torch.tensor([[1.0], [0.9]]))
    assert common_tokens(projection, 2, 3, threshold=None).teacher_ids.tolist() == [2]


def test_the_vocabularies_must_have_what_the_projection_names() -> None:
    projection = ProjectionTensors(torch.tensor([[2], [0]]), torch.tensor([[1.0], [1.0]]))
    with pytest.raises(ValueError, match="names the teacher id 2, the teacher has 2 ids"):
        common_tokens(projection, 2, 2, threshold=None)
    with pytest.raises(ValueError, match="has 2 rows, the student 1 ids"):
        common_tokens(projection, 1, 3, threshold=None)


def test_columns_are_ranked_by_their_largest_logit_and_equal_ones_by_id() -> None:
    logits = torch.tensor([[0.0, 5.0, 1.0, 9.0], [3.0, -1.0, 3.0, 9.0]])
    scores = column_maxima(logits, teacher_size=3)
    assert scores.tolist() == [3.0, 5.0, 3.0]
    assert likeliest(scores, 2).tolist() == [1, 0]
    assert likeliest(scores, 99).tolist() == [1, 0, 2]
    assert likeliest(torch.zeros(5000), 4999).tolist() == list(range(4999))
    assert column_maxima(logits[:0], teacher_size=3).tolist() == [-torch.inf] * 3
    with pytest.raises(ValueError, match="vocab_topk is 0"):
        likeliest(scores, 0)
