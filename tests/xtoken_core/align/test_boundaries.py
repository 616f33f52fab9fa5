from random import Random

import numpy as np
import pytest
from fakes import fake_vocabulary
from hypothesis import given
from hypothesis import strategies as st
from oracles import comparable_positions

from xtoken_core.align import AlignmentBatch, Segments, align_batch, prefix_boundaries
from xtoken_core.ragged import Ragged
from xtoken_core.vocabulary import Vocabulary

TOKENS = [b"a", b"b", b" ", b"ab", b"ba", b" a", "<bos>", "<eos>", "<turn>", "<other>"]
ROLES = {"bos": 6, "eos": 7, "turn_start": 8}
VOCABULARY = fake_vocabulary(TOKENS, ROLES)
ROW = st.lists(st.integers(0, len(TOKENS) - 1), max_size=10)


def found(batch: AlignmentBatch, mask: Ragged, dummy_prefix: bool) -> list[tuple[int, int, int]]:
    boundaries = prefix_boundaries(batch, mask, dummy_prefix)
    columns = (boundaries.row, boundaries.student_position, boundaries.teacher_position)
    assert {column.dtype for column in columns} == {np.dtype(np.int32)}
    return list(zip(*(column.tolist() for column in columns), strict=True))


def all_of(ids: Ragged) -> Ragged:
    return Ragged(np.ones(len(ids.values), dtype=bool), ids.offsets)


@given(st.lists(st.tuples(ROW, ROW), max_size=4), st.randoms(use_true_random=False), st.booleans())
def test_boundaries_are_those_of_the_definition(
    rows: list[tuple[list[int], list[int]]], random: Random, dummy_prefix: bool
) -> None:
    student, teacher = (Ragged.from_lists([row[side] for row in rows], np.int32) for side in (0, 1))
    batch = align_batch(student, teacher, VOCABULARY, VOCABULARY)
    mask = Ragged(np.array([random.random() < 0.8 for _ in student.values], dtype=bool), student.offsets)
    assert found(batch, mask, dummy_prefix) == comparable_positions(batch, mask, dummy_prefix)


@given(st.lists(st.tuples(ROW, ROW), min_size=1, max_size=4), st.data(), st.booleans())
def test_boundaries_of_chats_are_those_of_the_definition(
    rows: list[tuple[list[int], list[int]]], data: st.DataObject, dummy_prefix: bool
) -> None:
    student, teacher = (Ragged.from_lists([row[side] for row in rows], np.int32) for side in (0, 1))
    counts = [data.draw(st.integers(1, 4)) for _ in rows]
    batch = align_batch(
        student, teacher, VOCABULARY, VOCABULARY, Segments(_ends(student, counts, data), _ends(teacher, counts, data))
    )
    mask = all_of(student)
    assert found(batch, mask, dummy_prefix) == comparable_positions(batch, mask, dummy_prefix)


def _ends(ids: Ragged, counts: list[int], data: st.DataObject) -> Ragged:
    """So many segments for each row, of random lengths."""
    lengths = zip(ids.lengths.tolist(), counts, strict=True)
    cuts = [sorted(data.draw(st.integers(0, length)) for _ in range(count - 1)) for length, count in lengths]
    rows = [[*row, length] for row, length in zip(cuts, ids.lengths.tolist(), strict=True)]
    return Ragged.from_lists(rows, np.int32)


def test_different_templates_do_not_end_comparability() -> None:
    student, teacher = (
        Ragged.from_lists([[6, 5, 0, 1, 7, 2, 3]], np.int32),
        Ragged.from_lists([[9, 1, 3, 7, 3]], np.int32),
    )
    student_ends, teacher_ends = (
        Ragged.from_lists([[2, 4, 6, 7]], np.int32),
        Ragged.from_lists([[2, 3, 4, 5]], np.int32),
    )
    batch = align_batch(student, teacher, VOCABULARY, VOCABULARY, Segments(student_ends, teacher_ends))
    contents = Ragged(np.array([False, False, True, True, False, False, True]), student.offsets)
    assert found(batch, contents, False) == [(0, 1, 1), (0, 5, 3)]
    template_too = [(0, 1, 1), (0, 3, 2), (0, 4, 3), (0, 5, 3)]
    assert found(batch, all_of(student), False) == template_too


def test_a_difference_in_a_content_ends_comparability() -> None:
    student, teacher = Ragged.from_lists([[6, 0, 7, 0]], np.int32), Ragged.from_lists([[6, 1, 7, 0]], np.int32)
    ends = Ragged.from_lists([[1, 2, 3, 4]], np.int32)
    batch = align_batch(student, teacher, VOCABULARY, VOCABULARY, Segments(ends, ends))
    assert found(batch, all_of(student), False) == [(0, 0, 0)]


@given(st.text("ab", min_size=1, max_size=12), st.data())
def test_at_equal_texts_they_are_all_common_byte_offsets(text: str, data: st.DataObject) -> None:
    rows = [_cut(text, data), _cut(text, data)]
    student, teacher = (Ragged.from_lists([row], np.int32) for row in rows)
    batch = align_batch(student, teacher, VOCABULARY, VOCABULARY)
    expected = [
        (0, i - 1, j - 1)
        for i in range(1, len(rows[0]))
        for j in range(1, len(rows[1]))
        if _spelled(VOCABULARY, rows[0][:i]) == _spelled(VOCABULARY, rows[1][:j])
    ]
    assert found(batch, all_of(student), False) == expected


def _cut(text: str, data: st.DataObject) -> list[int]:
    """A random way to write `text`."""
    ids: list[int] = []
    while text:
        fitting = [i for i, token in enumerate(TOKENS) if isinstance(token, bytes) and text.startswith(token.decode())]
        ids.append(data.draw(st.sampled_from(fitting)))
        text = text[len(VOCABULARY.token_bytes(ids[-1])) :]
    return ids


def _spelled(vocabulary: Vocabulary, ids: list[int]) -> bytes:
    return b"".join(vocabulary.token_bytes(i) for i in ids)


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        ([6, 3], [6, 0, 1], [(0, 0)]),  # after BOS on both sides
        ([6, 3], [0, 1], []),  # the teacher has read nothing
        ([6, 0, 1], [9, 8, 3, 0], [(0, 1)]),  # BOS on one side, other marks on the other
        ([9, 0, 1], [0, 1], [(1, 0)]),  # a mark that plays no role, on one side
        ([6, 0, 1, 7], [6, 3], [(0, 0), (2, 1)]),  # the end that only the student has is predicted too
        ([0, 1], [0, 1, 7], [(0, 0)]),  # but not one that only the teacher has
        ([0, 1, 0], [0, 0, 0], [(0, 0)]),  # nothing behind the first difference
    ],
)
def test_examples(student: list[int], teacher: list[int], expected: list[tuple[int, int]]) -> None:
    ids = Ragged.from_lists([student], np.int32)
    batch = align_batch(ids, Ragged.from_lists([teacher], np.int32), VOCABULARY, VOCABULARY)
    assert [entry[1:] for entry in found(batch, all_of(ids), False)] == expected


def test_before_the_first_text_a_dummy_prefix_stands_in_the_way() -> None:
    student, teacher = Ragged.from_lists([[6, 5, 1]], np.int32), Ragged.from_lists([[6, 0, 1]], np.int32)
    batch = align_batch(student, teacher, fake_vocabulary(TOKENS, ROLES, dummy_prefix=True), VOCABULARY)
    assert found(batch, all_of(student), True) == [(0, 1, 1)]


def test_a_mask_that_does_not_fit_is_refused() -> None:
    ids = Ragged.from_lists([[0], [0, 1]], np.int32)
    batch = align_batch(ids, ids, VOCABULARY, VOCABULARY)
    with pytest.raises(ValueError, match="loss mask of row 1 has 1 values for 2 student tokens"):
        prefix_boundaries(batch, Ragged.from_lists([[True], [True]], bool), False)
    with pytest.raises(ValueError, match="1 rows for an alignment of 2 rows"):
        prefix_boundaries(batch, Ragged.from_lists([[True]], bool), False)
