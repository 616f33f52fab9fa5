"""gigatoken against `tokenizers`, on real tokenizers and texts that are made to tell them apart."""

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import gigatoken
import numpy as np
import pytest
from fakes import reproducible
from hypothesis import given
from hypothesis import strategies as st

from flows.quickstart.tokenizer import make_tokenizer
from xtoken_core.ragged import Ragged
from xtoken_core.tokenizer import Tokenizer
from xtoken_core.tokenizer.encoders import EncoderError, GigatokenEncoder, TokenizersEncoder, make_encoder

NAMES = ("byte_bpe", "tekken", "mistral_v1")
PIECES = st.sampled_from(
    [
        *"aZ7é中😀 .\n\t\r\x00",
        "\u0301",
        "  ",
        "don't",
        "</s>",
        "<s>",
        "[INST]",
        "<|bos|>",
        "▁",
        "<0x41>",
        "\u200d",
        "123456",
    ]
)
texts = st.lists(st.lists(PIECES, max_size=30).map("".join), max_size=6)


@pytest.fixture(scope="module", params=NAMES)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def encoder(tokenizer: Tokenizer) -> GigatokenEncoder:
    return GigatokenEncoder.of(tokenizer)


def ragged(texts: list[str]) -> Ragged:
    return Ragged.from_lists([np.frombuffer(text.encode(), np.uint8) for text in texts], np.uint8)


def assert_same(found: Ragged, expected: Ragged) -> None:
    np.testing.assert_array_equal(found.offsets, expected.offsets)
    np.testing.assert_array_equal(found.values, expected.values)
    assert found.values.dtype == np.int32


@reproducible
@given(texts=texts)
def test_the_ids_are_those_of_tokenizers(tokenizer: Tokenizer, encoder: GigatokenEncoder, texts: list[str]) -> None:
    assert_same(encoder.encode(ragged(texts)), tokenizer.encode_batch(texts))


def test_both_encoders_encode_a_real_text_alike(tokenizer: Tokenizer, encoder: GigatokenEncoder) -> None:
    found = ragged(list(topics.values()))
    assert encoder.differs(found) is None
    assert_same(TokenizersEncoder(tokenizer).encode(found), encoder.encode(found))


def test_a_slice_of_a_larger_buffer_is_encoded_alone(tokenizer: Tokenizer, encoder: GigatokenEncoder) -> None:
    whole = ragged(["one", "two three", "four"])
    part = Ragged(whole.values, whole.offsets[1:3])
    for each in (encoder, TokenizersEncoder(tokenizer)):
        assert_same(each.encode(part), tokenizer.encode_batch(["two three"]))


def test_no_texts_and_empty_texts(tokenizer: Tokenizer, encoder: GigatokenEncoder) -> None:
    for each in (encoder, TokenizersEncoder(tokenizer)):
        assert len(each.encode(ragged([]))) == 0
        assert_same(each.encode(ragged(["", "", "a"])), tokenizer.encode_batch(["", "", "a"]))


def test_more_text_than_one_call_takes(byte_bpe: Tokenizer) -> None:
    many = ["words and more words " * 2000] * 60
    assert_same(TokenizersEncoder(byte_bpe).encode(ragged(many)), byte_bpe.encode_batch(many))


def test_threads_and_copies_in_other_processes_agree(tokenizer: Tokenizer, encoder: GigatokenEncoder) -> None:
    found = ragged(list(topics.values())[:20])
    expected = encoder.encode(found)
    copy: GigatokenEncoder = pickle.loads(pickle.dumps(encoder))
    with ThreadPoolExecutor(2) as pool:
        for ids in pool.map(lambda each: each.encode(found), [encoder, encoder, copy]):
            assert_same(ids, expected)


@pytest.mark.parametrize(("limit", "loads"), [(1000, [2, 2, 3, 3]), (1 << 20, [1, 1, 1, 1])])
def test_an_instance_is_replaced_when_it_has_read_much(
    byte_bpe: Tokenizer, monkeypatch: pytest.MonkeyPatch, limit: int, loads: list[int]
) -> None:
    """It remembers every word, so that its memory would grow with the corpus. The proof is more than 1000 bytes."""
    loaded: list[Any] = []

    def load(definition: str) -> Any:
        loaded.append(gigatoken.Tokenizer.from_json(definition))
        return loaded[-1]

    monkeypatch.setattr("xtoken_core.tokenizer.encoders._BYTES_PER_INSTANCE", limit)
    monkeypatch.setattr("xtoken_core.tokenizer.encoders._load", load)
    encoder, counts = GigatokenEncoder.of(byte_bpe), []
    for _ in range(4):
        assert_same(encoder.encode(ragged(["word " * 120])), byte_bpe.encode_batch(["word " * 120]))
        counts.append(len(loaded))
    assert counts == loads


class TestRefusal:
    def test_a_kind_that_gigatoken_does_not_know(self, tmp_path: Path) -> None:
        make_tokenizer(tmp_path, list(topics.values())[:20])
        tokenizer = Tokenizer.load(tmp_path)
        with pytest.raises(EncoderError, match="gigatoken does not take this tokenizer"):
            GigatokenEncoder.of(tokenizer)
        assert isinstance(make_encoder(tokenizer), TokenizersEncoder)

    def test_other_ids_for_a_nasty_text(self, byte_bpe: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
        encode = GigatokenEncoder._encode

        def wrong(encoder: GigatokenEncoder, texts: Ragged) -> Ragged:
            found = encode(encoder, texts)
            return Ragged(np.where(found.values == found.values.max(), 5, found.values), found.offsets)

        monkeypatch.setattr(GigatokenEncoder, "_encode", wrong)
        with pytest.raises(EncoderError, match="gigatoken gives other ids for"):
            GigatokenEncoder.of(byte_bpe)

    def test_a_missing_package(self, byte_bpe: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "gigatoken", None)
        with pytest.raises(EncoderError, match="gigatoken is not installed"):
            GigatokenEncoder.of(byte_bpe)
