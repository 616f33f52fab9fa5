from collections import Counter

import numpy as np
import pytest
from fakes import reproducible
from hypothesis import given
from hypothesis import strategies as st
from oracles_projection import meetings
from texts import hard_texts

from xtoken_core.align import align_batch
from xtoken_core.projection import CooccurrenceSettings, PairCounts, Rule, count_pairs
from xtoken_core.projection.cooccurrence import cooccurrence_entries
from xtoken_core.tokenizer import Tokenizer

pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=20)


def counted(found: list[tuple[int, int]]) -> PairCounts:
    ids = np.array(found, dtype=np.int32).reshape(-1, 2)
    return PairCounts.of(ids[:, 0], ids[:, 1])


def as_dict(counts: PairCounts) -> dict[tuple[int, int], int]:
    keys = [*zip(counts.student.tolist(), counts.teacher.tolist(), strict=True)]
    assert keys == sorted(set(keys))
    return dict(zip(keys, counts.count.tolist(), strict=True))


@reproducible
@given(pairs, pairs)
def test_counts_of_two_shards_add_up(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    assert as_dict(PairCounts.none().plus(counted(one)).plus(counted(other))) == Counter(one + other)


@reproducible
@given(pairs, pairs, st.integers(0, 6))
def test_the_rarest_pairs_are_forgotten(
    one: list[tuple[int, int]], other: list[tuple[int, int]], max_pairs: int
) -> None:
    kept = as_dict(counted(one).plus(counted(other), max_pairs))
    whole = Counter(one + other)
    assert len(kept) == min(max_pairs, len(whole))
    assert sorted(kept.values(), reverse=True) == sorted(whole.values(), reverse=True)[: len(kept)]
    assert kept.items() <= whole.items()


def test_first_tokens_of_exact_chunks(mistral_v1: Tokenizer, byte_bpe: Tokenizer) -> None:
    texts = [*hard_texts().values(), "", "plain text 2024"]
    other = [text.replace("  ", " ") for text in texts]  # so that some chunks are not exact
    for student, teacher in ((mistral_v1, byte_bpe), (byte_bpe, mistral_v1)):
        ids = student.encode_batch(texts), teacher.encode_batch(other)
        batch = align_batch(*ids, student.vocabulary, teacher.vocabulary)
        assert not batch.chunk_exact.values.all()
        counts = count_pairs(batch, *ids)
        assert as_dict(counts) == meetings(batch, *ids)
        assert len(counts.count) > 100


def test_a_prior_takes_from_what_was_met_rarely() -> None:
    counts = counted([(1, 5)] * 3 + [(1, 6)] + [(2, 7)])
    entries = cooccurrence_entries(counts, CooccurrenceSettings(prior=1))
    assert entries.student.tolist() == [1, 1, 2]
    assert entries.teacher.tolist() == [5, 6, 7]
    assert entries.weight.tolist() == pytest.approx([3 / 5, 1 / 5, 1 / 2])
    assert set(entries.rule) == {Rule.COOCCURRENCE}


def test_no_counts_give_no_entries() -> None:
    assert len(cooccurrence_entries(PairCounts.none(), CooccurrenceSettings()).student) == 0
