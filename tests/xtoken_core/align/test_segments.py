"""Chats: rows cut into template, content, template, content and so on."""

from itertools import accumulate

import numpy as np
import pytest
from alignment_checks import (
    BOS,
    EOS,
    OTHER,
    TURN,
    Chunk,
    Token,
    align,
    check_invariants,
    chunks,
    cut,
    kinds,
    with_marks,
)
from fakes import fake_vocabulary
from hypothesis import given
from hypothesis import strategies as st

from xtoken_core.align import ChunkKind, Segments, align_batch
from xtoken_core.ragged import Ragged

TEXT, SPECIAL, TEMPLATE = ChunkKind
Parts = list[list[Token]]


def ends_of(parts: Parts) -> list[int]:
    return list(accumulate(map(len, parts)))


def flat(parts: Parts) -> list[Token]:
    return [token for part in parts for token in part]


def verdicts(student: Parts, teacher: Parts) -> list[tuple[int, int, bool, ChunkKind]]:
    batch = align(flat(student), flat(teacher), segments=(ends_of(student), ends_of(teacher)))
    check_invariants(flat(student), flat(teacher), batch)
    assert batch.student_chunk_start0[0] == batch.teacher_chunk_start0[0] == 0
    return [(*chunk, kind) for chunk, kind in zip(chunks(batch), kinds(batch), strict=True)]


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        # The same template: an ordinary walk.
        ([[TURN, b"us", b"er"], [b"hi"]], [[TURN, b"user"], [b"h", b"i"]],
         [(1, 1, True, SPECIAL), (3, 2, True, TEMPLATE), (4, 4, True, TEXT)]),
        # Different ones: what is between two pairs is one chunk.
        ([[BOS, b"[INST]", b" "], [b"hi"]], [[BOS, b"<|", b"user"], [b"hi"]],
         [(1, 1, True, SPECIAL), (3, 3, False, TEMPLATE), (4, 4, True, TEXT)]),
        ([[b"A", TURN, b"B", EOS]], [[b"x", TURN, OTHER, b"y", b"z", EOS]],
         [(1, 1, False, TEMPLATE), (2, 2, True, SPECIAL), (3, 5, False, TEMPLATE), (4, 6, True, SPECIAL)]),
        # Also where one side has nothing there.
        ([[b"only", b"here"], [b"hi"]], [[], [b"hi"]], [(2, 0, False, TEMPLATE), (3, 1, True, TEXT)]),
        ([[TURN], [b"hi"]], [[b"x", TURN], [b"hi"]],
         [(0, 1, False, TEMPLATE), (1, 2, True, SPECIAL), (2, 3, True, TEXT)]),
        # A special token without a partner belongs to the template.
        ([[BOS, TURN], [b"hi"]], [[TURN], [b"hi"]],
         [(1, 0, False, TEMPLATE), (2, 1, True, SPECIAL), (3, 2, True, TEXT)]),
        ([[OTHER, b"a"], []], [[OTHER, b"b"], []], [(2, 2, False, TEMPLATE)]),
        ([[TURN, EOS, b"a"]], [[EOS, b"b"]], [(1, 0, False, TEMPLATE), (2, 1, True, SPECIAL), (3, 2, False, TEMPLATE)]),
        # The same bytes across a segment's end do not count.
        ([[b"a"], [b"b"]], [[b"ab"], [b"b"]], [(1, 1, False, TEMPLATE), (2, 2, True, TEXT)]),
        ([[], [b"ab"], [], []], [[], [b"a", b"b"], [], []], [(1, 2, True, TEXT)]),
        # Contents are aligned as text.
        ([[], [b"a", EOS, b"b"]], [[], [b"a", b"b"]], [(1, 1, True, TEXT), (2, 1, False, SPECIAL), (3, 2, True, TEXT)]),
        ([[], [b" ", b"hi"]], [[], [b"hi"]], [(1, 0, False, TEXT), (2, 1, True, TEXT)]),
        # Tokens that spell nothing join a chunk of their own segment.
        ([[b"a", b""], [b"", b"b"]], [[b"a"], [b"b"]], [(2, 1, True, TEMPLATE), (4, 2, True, TEXT)]),
        ([[TURN, b""], [b"b"]], [[b"x", b"", TURN], [b"b"]],
         [(0, 1, False, TEMPLATE), (2, 3, True, SPECIAL), (3, 4, True, TEXT)]),
    ],
)  # fmt: skip
def test_examples(student: Parts, teacher: Parts, expected: list[tuple[int, int, bool, ChunkKind]]) -> None:
    assert verdicts(student, teacher) == expected


@given(st.lists(st.tuples(st.text("ab ", max_size=6), st.text("ab ", max_size=6)), max_size=5), st.data())
def test_random_segments(texts: list[tuple[str, str]], data: st.DataObject) -> None:
    sides = [[with_marks(cut(pair[side].encode(), data), data) for pair in texts] for side in (0, 1)]
    student, teacher = sides
    found = verdicts(student, teacher)
    ends = {(0, 0), *((i, j) for i, j, *_ in found)}
    assert ends.issuperset(zip(ends_of(student), ends_of(teacher), strict=True))
    segment_of = np.repeat(np.arange(len(student)), [len(part) for part in student])
    for (before, *_), (end, _, exact, kind) in zip([(0,), *found], found, strict=False):
        if end > before:
            is_template = segment_of[before] % 2 == 0
            assert is_template == (kind == TEMPLATE) or (kind == SPECIAL and (exact or not is_template))


@given(st.text("ab ", max_size=8), st.text("ab ", max_size=8), st.data())
def test_contents_are_aligned_as_if_they_were_alone(one: str, other: str, data: st.DataObject) -> None:
    student, teacher = cut(one.encode(), data), cut(other.encode(), data)
    alone = align(student, teacher)
    expected: list[Chunk] = [(i + 1, j + 2, exact) for i, j, exact in chunks(alone)]
    found = verdicts([[b"T"], list(student)], [[b"U", b"V"], list(teacher)])
    assert found[0] == (1, 2, False, TEMPLATE)
    assert [verdict[:3] for verdict in found[1:]] == expected
    assert {verdict[3] for verdict in found[1:]} <= {TEXT}


@given(st.text("ab ", max_size=8), st.data())
def test_equal_templates_are_cut_as_text_is(text: str, data: st.DataObject) -> None:
    student, teacher = cut(text.encode(), data), cut(text.encode(), data)
    expected = [(*chunk, TEMPLATE) for chunk in chunks(align(student, teacher))]
    assert verdicts([list(student)], [list(teacher)]) == expected


def test_bytes_that_belong_to_the_segment_before() -> None:
    vocabulary = fake_vocabulary([b"T", b" a", b"a"])
    student, teacher = Ragged.from_lists([[0, 1]], np.int32), Ragged.from_lists([[0, 2]], np.int32)
    ends, lead, no_lead = (Ragged.from_lists([row], np.int32) for row in ([1, 2], [0, 1], [0, 0]))
    batch = align_batch(student, teacher, vocabulary, vocabulary, Segments(ends, ends, lead, no_lead))
    assert batch.chunk_exact.row(0).tolist() == [False, True]  # "T " and "T", "a" and "a"
    with pytest.raises(ValueError, match="row 0 has 1 student leads for 2 segments"):
        align_batch(student, teacher, vocabulary, vocabulary, Segments(ends, ends, Ragged.from_lists([[0]], np.int32)))


def test_a_row_without_segments_is_plain_text() -> None:
    vocabulary = fake_vocabulary([b"a", b"b", "<bos>"], {"bos": 2})
    student, teacher = (Ragged.from_lists(rows, np.int32) for rows in ([[2, 0], [0, 1]], [[0], [1, 1]]))
    ends = Ragged.from_lists([[], [1, 2]], np.int32)
    batch = align_batch(student, teacher, vocabulary, vocabulary, Segments(ends, ends))
    assert batch.student_chunk_start0.tolist() == [1, 0]
    assert [row.tolist() for row in batch.chunk_kind] == [[TEXT], [TEMPLATE, TEXT]]
    assert [row.tolist() for row in batch.chunk_exact] == [[True], [False, True]]


def test_a_dummy_prefix_stays_in_a_segment() -> None:
    parts: tuple[Parts, Parts] = ([[], [b" a"]], [[], [b"a"]])
    segments = tuple(ends_of(one) for one in parts)
    batch = align(flat(parts[0]), flat(parts[1]), student_dummy=True, segments=segments)
    assert chunks(batch) == [(1, 1, False)]
    assert batch.n_bytes[0] == 2


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        ([[1, 2]], [[1, 2], [2]], "student segments of 1 rows for 2 rows"),
        ([[1, 2], [2]], [[1, 2], [1, 2]], "row 1 has 1 student segments but 2 teacher segments"),
        ([[1, 2], [2]], [[1, 2], [1]], "teacher segments of row 1 end at 1, but the row has 2 tokens"),
        ([[2, 1, 2], []], [[1, 1, 2], []], "student segments of row 0: one ends at 1, before its beginning at 2"),
        ([[], [-1, 2]], [[], [0, 2]], "student segments of row 1: one ends at -1, before its beginning at 0"),
    ],
)
def test_segments_that_do_not_fit_are_refused(student: list[list[int]], teacher: list[list[int]], message: str) -> None:
    vocabulary = fake_vocabulary([b"a"])
    ids = Ragged.from_lists([[0, 0], [0, 0]], np.int32)
    segments = Segments(Ragged.from_lists(student, np.int32), Ragged.from_lists(teacher, np.int32))
    with pytest.raises(ValueError, match=message):
        align_batch(ids, ids, vocabulary, vocabulary, segments)
