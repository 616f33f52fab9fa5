"""Alignment of the eight real tokenizers, pairwise, on text that is hard for tokenizers.

The oracle knows nothing of tokens but their lengths in bytes: where both sides spell the text, the chunks end exactly
where the cumulative lengths of both meet. Where one side is in NFC, chunks can end wherever nothing is composed across:
what could be exact then is found with Python's own normalisation.
"""

import unicodedata
from collections.abc import Callable, Iterator
from itertools import pairwise, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from real_tokenizers import REAL_TOKENIZERS, write_byte_bpe
from texts import LANGUAGES, decomposed, hard_texts
from tokenizers import Regex, normalizers
from tokenizers import Tokenizer as Backend

from xtoken_core.align import AlignmentBatch, ChunkKind, align_batch
from xtoken_core.ragged import Ragged
from xtoken_core.tokenizer import Tokenizer
from xtoken_core.vocabulary import Vocabulary

GetTokenizer = Callable[[str], Tokenizer]


class Encoded(NamedTuple):
    """A text as one tokenizer sees it: the ids, and what they spell without a dummy prefix."""

    ids: np.ndarray
    spelled: bytes
    ends: np.ndarray  # in bytes, of each token


def encode(tokenizer: Tokenizer, texts: list[str]) -> list[Encoded]:
    return [
        read(ids, text, tokenizer.vocabulary) for ids, text in zip(tokenizer.encode_batch(texts), texts, strict=True)
    ]


def read(ids: np.ndarray, text: str, vocabulary: Vocabulary) -> Encoded:
    tokens = [vocabulary.token_bytes(i) for i in ids.tolist()]
    prefix = len(b" ") if vocabulary.dummy_prefix and text else 0
    spelled = b"".join(tokens)
    assert spelled[:prefix] == b" "[:prefix]
    return Encoded(ids, spelled[prefix:], np.cumsum([len(token) for token in tokens]) - prefix)


@pytest.fixture(scope="module")
def encoded(real_tokenizer: GetTokenizer) -> dict[str, dict[str, Encoded]]:
    """Tokenizer -> name of the text -> its encoding."""
    texts = hard_texts()
    return {
        name: dict(zip(texts, encode(real_tokenizer(name), list(texts.values())), strict=True))
        for name in REAL_TOKENIZERS
    }


def align(student: Tokenizer, teacher: Tokenizer, pairs: list[tuple[Encoded, Encoded]]) -> AlignmentBatch:
    rows = [Ragged.from_lists([pair[side].ids for pair in pairs], np.int32) for side in (0, 1)]
    return align_batch(*rows, student.vocabulary, teacher.vocabulary)


def text_chunk_ends(batch: AlignmentBatch, row: int, student: Encoded, teacher: Encoded) -> tuple[np.ndarray, ...]:
    """Where the chunks of text end, in bytes, on either side."""
    is_text = batch.chunk_kind.row(row) == ChunkKind.TEXT
    ends = ((batch.student_chunk_ends, student), (batch.teacher_chunk_ends, teacher))
    return tuple(side.ends[tokens.row(row)[is_text] - 1] for tokens, side in ends)


def test_most_tokenizers_spell_most_texts(encoded: dict[str, dict[str, Encoded]]) -> None:
    """So that the test below leaves out nothing else. Qwen puts text in NFC, SmolLM2 has no token for some bytes."""
    texts = hard_texts()
    missed = {(name, t) for name in encoded for t, text in texts.items() if encoded[name][t].spelled != text.encode()}
    random = {"bytes", "code points", "code points in NFC"}
    assert missed == {("qwen", "code points"), ("qwen3_6", "code points"), *(("smollm2", text) for text in random)}
    assert len(LANGUAGES) >= 20


@pytest.mark.parametrize(("one", "other"), list(product(REAL_TOKENIZERS, repeat=2)))
def test_chunks_end_wherever_both_sides_end_a_token(
    one: str, other: str, encoded: dict[str, dict[str, Encoded]], real_tokenizer: GetTokenizer
) -> None:
    texts = {name: text.encode() for name, text in hard_texts().items()}
    names = [name for name, text in texts.items() if encoded[one][name].spelled == encoded[other][name].spelled == text]
    pairs = [(encoded[one][name], encoded[other][name]) for name in names]
    batch = align(real_tokenizer(one), real_tokenizer(other), pairs)
    assert batch.n_bytes.tolist() == batch.n_exact_bytes.tolist() == [len(texts[name]) for name in names]
    assert batch.n_exact.tolist() == batch.n_chunks.tolist()
    for row, (student, teacher) in enumerate(pairs):
        common = np.setdiff1d(np.intersect1d(student.ends, teacher.ends), [-1, 0])
        for ends in text_chunk_ends(batch, row, student, teacher):
            np.testing.assert_array_equal(ends, common, err_msg=f"{one} - {other}: {names[row]}")


NFC = ("qwen", "qwen3_6")
LOSSY_PAIRS = [(one, other) for one, other in product(REAL_TOKENIZERS, repeat=2) if (one in NFC) != (other in NFC)]
ENOUGH = 0.995


def no_exact_chunk_differs(batch: AlignmentBatch, row: int, student: Encoded, teacher: Encoded) -> bool:
    """Also where a chunk of text is told to be exact and both sides spell nothing."""
    exact = np.flatnonzero(batch.chunk_exact.row(row) & (batch.chunk_kind.row(row) == ChunkKind.TEXT))
    sides = ((batch.student_chunk_ends, batch.student_chunk_start0, student),)
    sides += ((batch.teacher_chunk_ends, batch.teacher_chunk_start0, teacher),)
    spans = []
    for ends, start0, side in sides:
        places = np.concatenate([[0], side.ends])[np.concatenate([[start0[row]], ends.row(row)])].clip(0)
        spans.append([side.spelled[places[chunk] : places[chunk + 1]] for chunk in exact])
    return spans[0] == spans[1]


def check_share(batch: AlignmentBatch, pairs: list[tuple[Encoded, Encoded]], possible: int) -> None:
    assert all(no_exact_chunk_differs(batch, row, *pair) for row, pair in enumerate(pairs))
    assert possible * ENOUGH <= batch.n_exact_bytes.sum() <= batch.n_bytes.sum()


def cuts(text: str) -> Iterator[int]:
    """The character positions of `text` across which nothing is composed."""
    for i in range(len(text) + 1):
        before, after = text[max(i - 4, 0) : i], text[i : i + 4]
        both = unicodedata.normalize("NFC", before + after)
        if both == unicodedata.normalize("NFC", before) + unicodedata.normalize("NFC", after):
            yield i


def exact_bytes(text: str, as_it_is: Encoded, composed: Encoded) -> int:
    """How many bytes of `text` the finest chunks put in exact ones, where one side reads it in NFC."""
    places = [0, 0]
    common = [(0, 0)]
    parts = (text[first:last] for first, last in pairwise(cuts(text)))
    for part in parts:
        places[0] += len(part.encode())
        places[1] += len(unicodedata.normalize("NFC", part).encode())
        if places[0] in as_it_is.ends and places[1] in composed.ends:
            common.append((places[0], places[1]))
    spans = [(as_it_is.spelled[a:c], composed.spelled[b:d]) for (a, b), (c, d) in pairwise(common)]
    return sum(len(one) for one, other in spans if one == other)


@pytest.mark.parametrize(("one", "other"), LOSSY_PAIRS)
def test_decomposed_text_is_exact_wherever_nothing_is_composed(
    one: str, other: str, real_tokenizer: GetTokenizer
) -> None:
    texts = [text for name, text in hard_texts().items() if name in LANGUAGES]
    texts = [decomposed(text) for text in texts if decomposed(text) != text]
    sides = [encode(real_tokenizer(name), texts) for name in (one, other)]
    pairs = list(zip(*sides, strict=True))
    of_the_text = [pair[::-1] if one in NFC else pair for pair in pairs]
    possible = sum(exact_bytes(text, *pair) for text, pair in zip(texts, of_the_text, strict=True))
    check_share(align(real_tokenizer(one), real_tokenizer(other), pairs), pairs, possible)


# A letter that is composed by one side, and a byte that SmolLM2 drops because it has no token for it.
SPARSE = [(*pair, " cafe\u0301") for pair in LOSSY_PAIRS]
SPARSE += [("smollm2", name, " \x13") for name in REAL_TOKENIZERS if name != "smollm2"]


@pytest.mark.parametrize(("one", "other", "lost"), SPARSE)
def test_what_one_side_changes_now_and_then_costs_little(
    one: str, other: str, lost: str, real_tokenizer: GetTokenizer
) -> None:
    text = hard_texts()["English"].replace(" bridge", lost, 1)
    pairs = list(zip(*(encode(real_tokenizer(name), [text]) for name in (one, other)), strict=True))
    assert pairs[0][0].spelled != pairs[0][1].spelled
    check_share(align(real_tokenizer(one), real_tokenizer(other), pairs), pairs, len(pairs[0][0].spelled))


@pytest.mark.parametrize("other", REAL_TOKENIZERS)
def test_lost_spaces_cost_little(other: str, real_tokenizer: GetTokenizer, tmp_path: Path) -> None:
    folder = write_byte_bpe(tmp_path)
    backend = Backend.from_file(str(folder / "tokenizer.json"))
    backend.normalizer = normalizers.Replace(Regex(" {2,}"), " ")
    backend.save(str(folder / "tokenizer.json"))
    one = Tokenizer.load(folder, lossy=True)
    text = hard_texts()["English"].replace(" bridge", "  bridge", 2)
    ids = one.encode_batch([text]).row(0)
    pair = (read(ids, text, one.vocabulary), encode(real_tokenizer(other), [text])[0])
    assert pair[0].spelled == text.replace("  ", " ").encode()
    check_share(align(one, real_tokenizer(other), [pair]), [pair], len(text.encode()))
