from pydoc_data.topics import topics

import numpy as np
import pytest
from alignment_checks import (
    BOS,
    EOS,
    OTHER,
    ROLES,
    TURN,
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
from oracles import common_boundaries, marks_before_chunk_0

from xtoken_core.align import ChunkKind, align_batch
from xtoken_core.ragged import Ragged
from xtoken_core.tokenizer import Tokenizer


@given(st.binary(min_size=1, max_size=24), st.data())
def test_equal_texts_are_cut_at_all_common_boundaries(text: bytes, data: st.DataObject) -> None:
    student, teacher = cut(text, data), cut(text, data)
    batch = align(student, teacher)
    check_invariants(student, teacher, batch)
    assert chunks(batch) == [(i, j, True) for i, j in common_boundaries(student, teacher)]


@given(st.binary(max_size=16), st.data())
def test_special_tokens_anywhere_keep_the_invariants(text: bytes, data: st.DataObject) -> None:
    student, teacher = with_marks(cut(text, data), data), with_marks(cut(text, data), data)
    check_invariants(student, teacher, align(student, teacher))


@given(st.text("ab ", max_size=16), st.text("ab ", max_size=16), st.booleans(), st.booleans(), st.data())
def test_any_two_texts_keep_the_invariants(
    one: str, other: str, student_dummy: bool, teacher_dummy: bool, data: st.DataObject
) -> None:
    student, teacher = with_marks(cut(one.encode(), data), data), with_marks(cut(other.encode(), data), data)
    batch = align(student, teacher, student_dummy=student_dummy, teacher_dummy=teacher_dummy)
    check_invariants(student, teacher, batch, student_dummy or teacher_dummy)


@given(st.binary(min_size=1, max_size=12), st.binary(min_size=1, max_size=12), st.data())
def test_what_stands_before_an_edit_is_cut_as_if_it_were_alone(same: bytes, rest: bytes, data: st.DataObject) -> None:
    student, teacher = cut(same, data), cut(same, data)
    alone = [chunk for chunk in chunks(align(student, teacher)) if student[-1] and teacher[-1]]
    edited = align([*student, b"X" + rest], [*teacher, b"Y"])
    assert chunks(edited)[: len(alone)] == alone


def test_chunks_of_a_small_example() -> None:
    batch = align([BOS, b"He", b"llo", b" wo", b"rld", EOS], [BOS, b"Hello", b" w", b"orld", EOS])
    assert chunks(batch) == [(1, 1, True), (3, 2, True), (5, 4, True), (6, 5, True)]
    assert kinds(batch) == [ChunkKind.SPECIAL, ChunkKind.TEXT, ChunkKind.TEXT, ChunkKind.SPECIAL]
    assert (batch.n_bytes[0], batch.n_exact_bytes[0]) == (11, 11)


@pytest.mark.parametrize(
    ("student", "teacher", "starts", "expected"),
    [
        ([BOS, b"a"], [b"a"], (1, 0), [(2, 1, True)]),
        ([b"a"], [BOS, b"a"], (0, 1), [(1, 2, True)]),
        ([BOS, TURN, b"a"], [TURN, b"a"], (1, 0), [(2, 1, True), (3, 2, True)]),
        ([BOS, b"a"], [OTHER, OTHER, b"a"], (1, 2), [(2, 3, True)]),
        ([OTHER, b"a"], [b"a"], (1, 0), [(2, 1, True)]),
        ([BOS, b"a"], [OTHER, BOS, b"a"], (0, 1), [(1, 2, True), (2, 3, True)]),
        ([BOS, OTHER, TURN, b"a"], [BOS, TURN, b"a"], (2, 1), [(3, 2, True), (4, 3, True)]),
        ([OTHER, b"", BOS, b"a"], [b"", b"a"], (3, 0), [(4, 2, True)]),
        ([BOS, EOS], [OTHER, TURN], (2, 2), []),
        ([b"a", EOS], [b"a"], (0, 0), [(1, 1, True), (2, 1, False)]),
        ([b"a"], [b"a", EOS], (0, 0), [(1, 1, True), (1, 2, False)]),
        ([b"a", EOS, b"b"], [b"a", b"b"], (0, 0), [(1, 1, True), (2, 1, False), (3, 2, True)]),
        (
            [b"a", TURN, b"b"],
            [b"a", OTHER, TURN, b"b"],
            (0, 0),
            [(1, 1, True), (1, 2, False), (2, 3, True), (3, 4, True)],
        ),
        ([b"a", OTHER], [b"a", OTHER], (0, 0), [(1, 1, True), (2, 1, False), (2, 2, False)]),
        ([b"a", EOS, b"b"], [b"ab"], (0, 0), [(3, 1, False)]),
        ([BOS], [], (1, 0), []),
        ([], [], (0, 0), []),
        ([b""], [], (0, 0), [(1, 0, False)]),
        ([b"", b"a"], [b"a", b""], (0, 0), [(2, 2, True)]),
        ([b"a", b"", EOS], [b"a", EOS], (0, 0), [(1, 1, True), (3, 2, True)]),
    ],
)
def test_marks_and_empty_tokens(
    student: list[Token], teacher: list[Token], starts: tuple[int, int], expected: list[tuple[int, int, bool]]
) -> None:
    batch = align(student, teacher)
    assert (batch.student_chunk_start0[0], batch.teacher_chunk_start0[0]) == starts
    assert chunks(batch) == expected


@given(st.permutations([BOS, EOS, TURN, OTHER]), st.permutations([BOS, EOS, TURN, OTHER]), st.data())
def test_leading_marks_are_in_no_chunk_up_to_the_last_unpaired(
    student: list[str], teacher: list[str], data: st.DataObject
) -> None:
    leading = [marks[: data.draw(st.integers(0, 4))] for marks in (student, teacher)]
    batch = align([*leading[0], b"a"], [*leading[1], b"a"])
    starts = (batch.student_chunk_start0[0], batch.teacher_chunk_start0[0])
    assert starts == marks_before_chunk_0(*([ROLES.get(mark) for mark in marks] for marks in leading))
    assert batch.chunk_exact.values.all()


def test_an_unpaired_special_token_is_a_special_chunk_empty_on_one_side() -> None:
    assert kinds(align([b"a", EOS, b"b"], [b"a", b"b"])) == [ChunkKind.TEXT, ChunkKind.SPECIAL, ChunkKind.TEXT]


def test_a_special_token_that_the_other_side_reads_as_text() -> None:
    batch = align([b"a", EOS, b"b"], [b"a", b"</", b"s>", b"b"])
    assert chunks(batch) == [(1, 1, True), (2, 1, False), (2, 3, False), (3, 4, True)]


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        ([b" a", b"b"], [b"ab"], [(2, 1, True)]),  # the prefix is no text
        ([b" ", b"a"], [b"a"], [(2, 1, True)]),  # a prefix alone joins what follows
        ([BOS, b" a"], [BOS, b"a"], [(1, 1, True), (2, 2, True)]),
        ([b" ", b" a"], [b" a"], [(2, 1, True)]),  # a prefix before a text that begins with a space
        ([b" a"], [b" a"], [(1, 1, True)]),  # here the tokenizer left the prefix out
        ([b" ", b"a"], [b" ", b"a"], [(1, 1, True), (2, 2, True)]),
        ([b"a"], [b"a"], [(1, 1, True)]),
    ],
)
def test_the_dummy_prefix_of_the_student(
    student: list[Token], teacher: list[Token], expected: list[tuple[int, int, bool]]
) -> None:
    assert chunks(align(student, teacher, student_dummy=True)) == expected
    mirrored = [(j, i, exact) for i, j, exact in expected]
    assert chunks(align(teacher, student, teacher_dummy=True)) == mirrored


def test_both_sides_have_a_dummy_prefix_of_different_style() -> None:
    always, unless_there_is_one = [b" ", b" a"], [b" a"]
    batch = align(always, unless_there_is_one, student_dummy=True, teacher_dummy=True)
    assert chunks(batch) == [(2, 1, True)]
    assert batch.n_bytes[0] == 2


def test_rows_do_not_touch_each_other() -> None:
    vocabulary = fake_vocabulary([b"a", b"b", b"ab", "<bos>"], {"bos": 3})
    student = Ragged.from_lists([[3, 0, 1], [], [2], [0, 1]], np.int32)
    teacher = Ragged.from_lists([[2], [], [0, 1], [1, 0]], np.int32)
    batch = align_batch(student, teacher, vocabulary, vocabulary)
    assert [ends.tolist() for ends in batch.student_chunk_ends] == [[3], [], [1], [1, 2]]
    assert [ends.tolist() for ends in batch.teacher_chunk_ends] == [[1], [], [2], [1, 2]]
    assert batch.student_chunk_start0.tolist() == [1, 0, 0, 0]
    assert batch.n_exact.tolist() == [1, 0, 1, 0]


def test_a_slice_of_read_only_rows() -> None:
    vocabulary = fake_vocabulary([b"a", b"b"])
    values = np.array([1, 1, 0, 1], dtype=np.int32)
    values.flags.writeable = False
    ids = Ragged(values, np.array([2, 4]))
    batch = align_batch(ids, ids, vocabulary, vocabulary)
    assert batch.student_chunk_ends.row(0).tolist() == [1, 2]


def test_impossible_input_is_refused() -> None:
    vocabulary = fake_vocabulary([b"a"])
    one, two = Ragged.from_lists([[0]], np.int32), Ragged.from_lists([[0], [0]], np.int32)
    with pytest.raises(ValueError, match="1 student rows but 2 teacher rows"):
        align_batch(one, two, vocabulary, vocabulary)
    with pytest.raises(ValueError, match="teacher ids run from 0 to 1, but the vocabulary has 0 to 0"):
        align_batch(one, Ragged.from_lists([[0, 1]], np.int32), vocabulary, vocabulary)
    with pytest.raises(ValueError, match="student ids run from -1"):
        align_batch(Ragged.from_lists([[-1]], np.int32), one, vocabulary, vocabulary)


def test_real_tokenizers_on_real_text(byte_bpe: Tokenizer, mistral_v1: Tokenizer, tekken: Tokenizer) -> None:
    texts = [*list(topics.values())[:20], "  two  spaces\r\n\t日本語 😀 \u0000", " lead", ""]
    encoded = {tokenizer: tokenizer.encode_batch(texts) for tokenizer in (byte_bpe, mistral_v1, tekken)}
    for student, teacher in ((byte_bpe, mistral_v1), (mistral_v1, tekken), (tekken, byte_bpe)):
        batch = align_batch(encoded[student], encoded[teacher], student.vocabulary, teacher.vocabulary)
        assert batch.n_bytes.tolist() == [len(text.encode()) for text in texts]
        assert batch.n_exact_bytes.tolist() == batch.n_bytes.tolist()
        assert (batch.chunk_kind.values == ChunkKind.SPECIAL).sum() == len(texts)  # BOS with BOS


def test_a_lost_token_costs_one_chunk(byte_bpe: Tokenizer) -> None:
    vocabulary = byte_bpe.vocabulary
    ids = byte_bpe.encode_batch(["some words before, and some after"])
    without = Ragged.from_lists([np.delete(ids.values, 4)], np.int32)
    batch = align_batch(without, ids, vocabulary, vocabulary)
    assert np.flatnonzero(~batch.chunk_exact.row(0)).tolist() == [4]
