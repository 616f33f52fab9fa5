"""Rows whose two sides do not spell the same."""

import unicodedata
from collections.abc import Callable
from pydoc_data.topics import topics

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
from hypothesis import assume, given
from hypothesis import strategies as st

from benchmarks.align_reference import align_tokens, all_cheapest_ways, chunks_of
from xtoken_core.align import ChunkKind
from xtoken_core.tokenizer import Tokenizer


@given(st.text("ab ", min_size=1, max_size=6), st.text("ab ", min_size=1, max_size=6), st.data())
def test_the_chunks_are_those_of_a_cheapest_way(one: str, other: str, data: st.DataObject) -> None:
    student, teacher = (list(filter(None, cut(text.encode(), data))) for text in (one, other))
    possible = [chunks_of(student, teacher, way) for way in all_cheapest_ways(one.encode(), other.encode())]
    assert chunks(align(student, teacher)) in possible


@given(st.binary(min_size=3, max_size=24), st.integers(0, 23), st.binary(max_size=2), st.data())
def test_an_edit_costs_no_chunk_but_those_that_it_touches(
    text: bytes, at: int, instead: bytes, data: st.DataObject
) -> None:
    assume(at < len(text) and text[at : at + 1] not in instead)
    student = list(filter(None, cut(text, data)))
    teacher = list(filter(None, cut(text[:at], data))) + [instead] * bool(instead)
    teacher += list(filter(None, cut(text[at + 1 :], data)))
    batch = align(student, teacher)
    check_invariants(student, teacher, batch)
    expected = align_tokens(student, teacher)
    assert sum(not exact for *_, exact in chunks(batch)) <= sum(not exact for *_, exact in expected)


@given(st.text("ab ", max_size=12), st.text("ab ", max_size=12), st.data())
def test_special_tokens_keep_the_invariants(one: str, other: str, data: st.DataObject) -> None:
    student, teacher = with_marks(cut(one.encode(), data), data), with_marks(cut(other.encode(), data), data)
    check_invariants(student, teacher, align(student, teacher))


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        ([b"a", b"b"], [b"b", b"a"], [(1, 1, False), (2, 2, False)]),  # replaced one by one
        ([b"Hello", b" World"], [b"hello", b" world"], [(1, 1, False), (2, 2, False)]),
        ([b"a", b"", b" b"], [b"a", b" b"], [(1, 1, True), (3, 2, True)]),
        # Of two spaces the one is missing that is a token, wherever the search saw it first.
        ([b"a", b" ", b" b"], [b"a", b" b"], [(1, 1, True), (2, 1, False), (3, 2, True)]),
        ([b"a ", b" ", b"b"], [b"a ", b"b"], [(1, 1, True), (2, 1, False), (3, 2, True)]),
        ([b"a", b" b"], [b"a", b" ", b" b"], [(1, 1, True), (1, 2, False), (2, 3, True)]),
        ([b"the", b" end", b" "], [b"the", b" end"], [(1, 1, True), (2, 2, True), (3, 2, False)]),
        (
            [b"caf", b"e", b"\xcc\x81", b" x"],
            [b"caf", b"\xc3", b"\xa9", b" x"],
            [(1, 1, True), (3, 3, False), (4, 4, True)],
        ),
        ([b"xab", b"cy"], [b"xa", b"bbcy"], [(2, 2, False)]),  # no common end of tokens
        ([b"a", b"b"], [b"", b""], [(2, 2, False)]),
        ([b"a", b"b"], [], [(2, 0, False)]),
    ],
)
def test_examples(student: list[Token], teacher: list[Token], expected: list[Chunk]) -> None:
    batch = align(student, teacher)
    check_invariants(student, teacher, batch)
    assert chunks(batch) == expected


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        # The same roles in the same order belong together, whatever is between.
        ([b"a", EOS, b"bcd"], [b"bcd", EOS, b"q"], [(1, 1, False), (2, 2, True), (3, 3, False)]),
        ([b"a", b" ", EOS, b"b"], [b"a", EOS, b"b"], [(1, 1, True), (2, 1, False), (3, 2, True), (4, 3, True)]),
        ([b"a", b"", EOS, b""], [b"x", EOS], [(1, 1, False), (4, 2, True)]),
        # Otherwise those pair that stand at corresponding places.
        (
            [b"a", EOS, b"b", b"c", EOS],
            [b"a", EOS, b"b"],
            [(1, 1, True), (2, 2, True), (3, 3, True), (4, 3, False), (5, 3, False)],
        ),
        ([b"a", TURN, b"b", EOS], [b"x", b"b", EOS], [(1, 1, False), (2, 1, False), (3, 2, True), (4, 3, True)]),
        ([b"a", OTHER, b"b"], [b"x", OTHER, b"b"], [(1, 1, False), (2, 1, False), (2, 2, False), (3, 3, True)]),
        ([BOS, b"a", EOS], [b"x", EOS], [(2, 1, False), (3, 2, True)]),
    ],
)
def test_special_tokens(student: list[Token], teacher: list[Token], expected: list[Chunk]) -> None:
    batch = align(student, teacher)
    check_invariants(student, teacher, batch)
    assert chunks(batch) == expected


def test_an_unpaired_special_token_between_differing_texts_is_special() -> None:
    batch = align([b"a", TURN, b"b", EOS], [b"x", b"b", EOS])
    assert kinds(batch) == [ChunkKind.TEXT, ChunkKind.SPECIAL, ChunkKind.TEXT, ChunkKind.SPECIAL]


@pytest.mark.parametrize("student_dummy", [False, True])
def test_a_dummy_prefix_before_texts_of_different_length(student_dummy: bool) -> None:
    batch = align([b" one", b"  ", b"two"], [b"one", b" ", b"two"], student_dummy=student_dummy)
    assert batch.chunk_exact.row(0).tolist() == [student_dummy, False, True]


def test_a_dummy_prefix_that_was_left_out_before_texts_of_different_length() -> None:
    batch = align([b" one", b"  ", b"two"], [b" one", b" ", b"two"], student_dummy=True)
    assert batch.chunk_exact.row(0).tolist() == [True, False, True]


def test_many_pieces_without_a_common_end_of_tokens_cost_linear_time() -> None:
    """A search from the last chunk on for each of 50,000 pieces would take far longer."""
    n = 50_000
    student = [b"x", *([b"ab", b"cd"] * n), b"y"]
    teacher = [b"xa", *([b"bc", b"da", b"-"] * n)]
    assert chunks(align(student, teacher)) == [(len(student), len(teacher), False)]


def nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def without_double_spaces(text: str) -> str:
    return text.replace("  ", " ")


def without_trailing_spaces(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.split("\n"))


SPARSE = (
    "A paragraph about the Cafe\u0301 where, a long time ago,  nobody had\u00a0known it.  \nIt went on for lines \n"
)


@pytest.mark.parametrize("change", [nfc, without_double_spaces, without_trailing_spaces])
def test_real_tokenizers_where_one_side_lost_something(
    byte_bpe: Tokenizer, tekken: Tokenizer, change: Callable[[str], str]
) -> None:
    parts = [text[:1500] for text in list(topics.values())[:20]]
    texts = [(SPARSE + part) if change is nfc else part.replace(".\n", ".  \n") for part in parts]
    changed = [change(text) for text in texts]
    assert changed != texts
    rows = zip(byte_bpe.encode_batch(texts), tekken.encode_batch(changed), strict=True)
    for text, less, (student_ids, teacher_ids) in zip(texts, changed, rows, strict=True):
        student, teacher = as_tokens(student_ids, byte_bpe), as_tokens(teacher_ids, tekken)
        batch = align(student, teacher)
        check_invariants(student, teacher, batch)
        edits = len(text) - len(less)
        assert 0 < batch.n_chunks[0] - batch.n_exact[0] <= edits
        assert batch.n_bytes[0] - batch.n_exact_bytes[0] <= 16 * edits


def as_tokens(ids: np.ndarray, tokenizer: Tokenizer) -> list[Token]:
    vocabulary = tokenizer.vocabulary
    return [vocabulary.token_bytes(i) if vocabulary.lengths[i] else BOS for i in ids.tolist()]
