import numpy as np
import pytest
import torch
from fakes import fake_vocabulary, random_logits, records_of, reproducible, vocabularies
from hypothesis import given
from hypothesis import strategies as st
from oracles_losses import hidden_and_rest, softmax

from xtoken_core.topk import Records, make_records

SEEDS = st.integers(0, 2**31)


def total_mass(records: Records) -> np.ndarray:
    stored, hidden = (np.exp(part.astype(np.float64)) for part in (records.topk_logprob, records.topk_hidden_logmass))
    return stored.sum(1) + hidden.sum(1) + np.exp(records.rest_logmass.astype(np.float64))


@reproducible
@given(vocabularies(), SEEDS, st.integers(1, 20))
def test_every_mass_equals_brute_force(vocabulary, seed, k):
    logits = random_logits(3, vocabulary.size, seed)
    records = records_of(vocabulary, logits, k)
    for row, probs in enumerate(map(softmax, logits.numpy())):
        stored = records.topk_ids[row].tolist()
        hidden, rest = hidden_and_rest(probs, stored, vocabulary)
        np.testing.assert_allclose(np.exp(records.topk_logprob[row]), probs[stored], rtol=1e-5)
        np.testing.assert_allclose(np.exp(records.topk_hidden_logmass[row]), hidden, rtol=1e-5)
        np.testing.assert_allclose(np.exp(records.rest_logmass[row]), rest, rtol=1e-5)


@reproducible
@given(vocabularies(), SEEDS, st.integers(1, 20))
def test_a_record_sums_to_one_and_is_sorted(vocabulary, seed, k):
    records = records_of(vocabulary, random_logits(3, vocabulary.size, seed, scale=10.0), k)
    np.testing.assert_allclose(total_mass(records), 1.0, rtol=1e-5)
    assert (np.diff(records.topk_logprob, axis=1) <= 0).all()


def test_hidden_mass_goes_to_the_longest_stored_prefix():
    vocabulary = fake_vocabulary([b"a", b"ab", b"abc", b"abcd", b"b", "<s>"])
    probs = torch.tensor([[0.4, 0.3, 0.1, 0.05, 0.12, 0.03]])
    records = records_of(vocabulary, probs.log(), k=2)
    assert records.topk_ids.tolist() == [[0, 1]]
    np.testing.assert_allclose(np.exp(records.topk_hidden_logmass), [[0.0, 0.15]], atol=1e-6)
    np.testing.assert_allclose(np.exp(records.rest_logmass), [0.15], rtol=1e-5)


def test_of_stored_tokens_with_equal_bytes_the_most_probable_holds_the_hidden_mass():
    vocabulary = fake_vocabulary([b"a", b"a", b"ab", b"a"])
    records = records_of(vocabulary, torch.tensor([[0.2, 0.5, 0.1, 0.2]]).log(), k=2)
    hidden = dict(zip(records.topk_ids[0].tolist(), np.exp(records.topk_hidden_logmass[0]).tolist(), strict=True))
    assert hidden.pop(1) == pytest.approx(0.3, rel=1e-5)
    assert list(hidden.values()) == [0.0]


def test_with_k_of_the_whole_vocabulary_nothing_is_left_over():
    vocabulary = fake_vocabulary([b"a", b"ab", b"b", None, "<s>"])
    records = records_of(vocabulary, random_logits(4, 5, seed=0), k=64)
    assert records.k == 5
    assert np.isneginf(records.topk_hidden_logmass).all()
    assert np.isneginf(records.rest_logmass).all()


def test_columns_of_a_padded_head_are_not_there():
    vocabulary = fake_vocabulary([b"a", b"ab", b"b"])
    logits = random_logits(4, 3, seed=1)
    padded = torch.cat([logits, torch.full((4, 2), 50.0)], dim=1)
    expected, found = records_of(vocabulary, logits, k=2), records_of(vocabulary, padded, k=2)
    np.testing.assert_array_equal(found.topk_logprob, expected.topk_logprob)
    np.testing.assert_array_equal(found.logsumexp, expected.logsumexp)


def test_ids_without_a_column_have_no_probability():
    vocabulary = fake_vocabulary([b"a", b"b", b"ab", b"bb"])
    records = records_of(vocabulary, torch.tensor([[0.6, 0.4]]).log(), k=1)
    np.testing.assert_allclose(np.exp(records.rest_logmass), [0.4], rtol=1e-6)
    assert np.isneginf(records.topk_hidden_logmass).all()


def test_values_of_the_full_distribution():
    vocabulary = fake_vocabulary([b"a", b"b", b"c"])
    logits = random_logits(3, 3, seed=2)
    records = make_records(logits, torch.tensor([2, -1, 0]), vocabulary, k=1)
    log_probs = logits.double().log_softmax(-1)
    np.testing.assert_allclose(records.next_logprob, [log_probs[0, 2], np.nan, log_probs[2, 0]], rtol=1e-5)
    np.testing.assert_allclose(records.logsumexp, logits.double().logsumexp(-1), rtol=1e-5)
    np.testing.assert_allclose(records.entropy, -(log_probs.exp() * log_probs).sum(-1), rtol=1e-5)


def test_forbidden_tokens_leave_the_entropy_finite():
    logits = torch.tensor([[0.0, 0.0, -torch.inf]])
    records = records_of(fake_vocabulary([b"a", b"b", b"c"]), logits, k=1)
    np.testing.assert_allclose(records.entropy, [np.log(2)], rtol=1e-6)


@pytest.mark.parametrize(("value", "found"), [(torch.nan, "nan"), (torch.inf, "inf")])
def test_logits_that_are_no_numbers_are_an_error(value, found):
    logits = random_logits(150, 3, seed=0)
    logits[[70, 140], 1] = value
    with pytest.raises(ValueError, match=rf"position 70 are no distribution: .* is {found}\. Run .* float32.* weights"):
        records_of(fake_vocabulary([b"a", b"b", b"c"]), logits, k=2)


def test_a_position_where_everything_is_forbidden_is_an_error():
    with pytest.raises(ValueError, match="position 0 are no distribution: their logsumexp is -inf"):
        records_of(fake_vocabulary([b"a", b"b"]), torch.full((1, 2), -torch.inf), k=1)


def test_a_next_id_without_a_column_is_an_error():
    with pytest.raises(ValueError, match="id 3, but the logits have 2 columns"):
        make_records(torch.zeros(1, 5), torch.tensor([3]), fake_vocabulary([b"a", b"b"]), k=1)


def test_many_rows_are_made_as_if_each_were_alone():
    vocabulary = fake_vocabulary([b"a", b"ab", b"b", b"ba", b"abb"])
    logits = random_logits(150, 5, seed=3)
    together = records_of(vocabulary, logits, k=2)
    alone = Records.concatenate([records_of(vocabulary, row[None], k=2) for row in logits])
    assert len(together) == 150
    np.testing.assert_array_equal(together.topk_ids, alone.topk_ids)
    np.testing.assert_allclose(together.topk_hidden_logmass, alone.topk_hidden_logmass, rtol=1e-5)
    np.testing.assert_allclose(together.rest_logmass, alone.rest_logmass, rtol=1e-5)


def test_half_precision_logits_are_read_in_float32():
    vocabulary = fake_vocabulary([b"a", b"ab", b"b"])
    logits = random_logits(3, 3, seed=4).bfloat16()
    found, expected = records_of(vocabulary, logits, k=2), records_of(vocabulary, logits.float(), k=2)
    np.testing.assert_array_equal(found.topk_logprob, expected.topk_logprob)
    assert found.topk_logprob.dtype == np.float32


def test_no_rows_make_no_records():
    records = records_of(fake_vocabulary([b"a", b"b"]), torch.zeros(0, 2), k=1)
    assert len(records) == 0
    assert records.k == 1


def test_take_picks_rows_of_every_column():
    vocabulary = fake_vocabulary([b"a", b"ab", b"b"])
    records = make_records(random_logits(4, 3, seed=5), torch.tensor([0, 1, 2, 0]), vocabulary, k=2)
    taken = records.take(np.array([3, 1]))
    np.testing.assert_array_equal(taken.topk_ids, records.topk_ids[[3, 1]])
    np.testing.assert_array_equal(taken.next_logprob, records.next_logprob[[3, 1]])
