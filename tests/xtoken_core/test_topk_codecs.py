from dataclasses import replace

import numpy as np
import pytest
from fakes import fake_vocabulary, random_logits, records_of, reproducible, vocabularies
from hypothesis import given
from hypothesis import strategies as st

from xtoken_core.topk import Codec, Records, codec_error, decode, encode

VOCABULARY = fake_vocabulary([b"a", b"ab", b"b", b"ba", b"abb", b"c", b"ca"])


def some_records(scale: float = 3.0, k: int = 3) -> Records:
    return records_of(VOCABULARY, random_logits(50, VOCABULARY.size, seed=0, scale=scale), k)


def total_mass(records: Records) -> np.ndarray:
    parts = [records.topk_logprob, records.topk_hidden_logmass, records.rest_logmass[:, None]]
    return np.exp(np.concatenate(parts, axis=1).astype(np.float64)).sum(axis=1)


def test_float32_gives_back_what_it_was_given():
    records = some_records()
    decoded = decode(encode(records, Codec.FLOAT32), Codec.FLOAT32)
    np.testing.assert_array_equal(decoded.topk_logprob, records.topk_logprob)
    np.testing.assert_array_equal(decoded.topk_hidden_logmass, records.topk_hidden_logmass)
    np.testing.assert_array_equal(decoded.rest_logmass, records.rest_logmass)
    assert codec_error(records, Codec.FLOAT32).max_mass == 0.0


def test_float16_halves_the_wide_columns_and_no_other():
    stored = encode(some_records(), Codec.FLOAT16)
    assert stored.topk_logprob.dtype == stored.topk_hidden_logmass.dtype == np.float16
    assert stored.rest_logmass.dtype == stored.next_logprob.dtype == np.float32


@reproducible
@given(vocabularies(), st.integers(0, 2**31), st.integers(1, 20), st.sampled_from([0.1, 3.0, 12.0]))
def test_a_decoded_record_sums_to_one(vocabulary, seed, k, scale):
    records = records_of(vocabulary, random_logits(4, vocabulary.size, seed, scale), k)
    decoded = decode(encode(records, Codec.FLOAT16), Codec.FLOAT16)
    np.testing.assert_allclose(total_mass(decoded), 1.0, rtol=1e-6)
    assert decoded.topk_logprob.dtype == decoded.rest_logmass.dtype == np.float32


def test_float16_finds_the_rest_in_what_the_others_leave():
    decoded = decode(encode(some_records(scale=1.0), Codec.FLOAT16), Codec.FLOAT16)
    np.testing.assert_allclose(np.exp(decoded.rest_logmass), np.exp(some_records(scale=1.0).rest_logmass), atol=1e-3)


def test_a_rest_that_was_empty_stays_empty():
    decoded = decode(encode(some_records(k=7), Codec.FLOAT16), Codec.FLOAT16)
    assert np.isneginf(decoded.rest_logmass).all()
    np.testing.assert_allclose(total_mass(decoded), 1.0, rtol=1e-6)


def test_stored_masses_above_one_are_scaled_down():
    too_much = replace(some_records(), topk_logprob=np.full((50, 3), np.log(0.5), dtype=np.float16))
    decoded = decode(too_much, Codec.FLOAT16)
    assert np.isneginf(decoded.rest_logmass).all()
    np.testing.assert_allclose(total_mass(decoded), 1.0, rtol=1e-6)


def test_the_measured_error_is_the_distance_between_record_and_copy():
    records = some_records()
    error = codec_error(records, Codec.FLOAT16)
    decoded = decode(encode(records, Codec.FLOAT16), Codec.FLOAT16)
    stored_error = np.abs(np.exp(decoded.topk_logprob) - np.exp(records.topk_logprob)).max()
    assert stored_error - 1e-7 <= error.max_mass < 2e-3
    assert 0 < error.mean_kl < 1e-4


def test_an_unknown_codec_is_an_error():
    with pytest.raises(ValueError, match="int4"):
        encode(some_records(), "int4")
