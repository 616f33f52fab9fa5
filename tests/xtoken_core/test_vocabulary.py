from dataclasses import replace

import numpy as np
import pytest
from fakes import fake_vocabulary
from hypothesis import given
from hypothesis import strategies as st
from oracles import longest_proper_prefix

from xtoken_core.roles import PAIRED_ROLES, pair_specials, role_masks
from xtoken_core.vocabulary import Vocabulary

# Few letters, so that prefixes and duplicates are common; None is a hole, a string a special token.
TOKENS = st.lists(st.one_of(st.text("ab", min_size=1, max_size=4).map(str.encode), st.sampled_from([None, "<s>"])))


def test_ids_tokens_and_holes() -> None:
    vocabulary = fake_vocabulary([b"a", "<s>", None, b"ab", b"a"], roles={"bos": 1})
    assert vocabulary.size == 5
    assert [vocabulary.token_bytes(i) for i in range(5)] == [b"a", b"", b"", b"ab", b"a"]
    assert vocabulary.lookup == {b"a": 0, b"ab": 3}
    assert vocabulary.canonical.tolist() == [0, 1, 2, 3, 0]
    assert vocabulary.prefix_parent.tolist() == [-1, -1, -1, 0, 0]


@given(TOKENS)
def test_prefix_parents_are_those_found_by_trying_all(tokens: list[bytes | str | None]) -> None:
    vocabulary = fake_vocabulary(tokens)
    for i in range(vocabulary.size):
        if vocabulary.canonical[i] != i:
            assert vocabulary.prefix_parent[i] == vocabulary.canonical[i]
        else:
            assert vocabulary.prefix_parent[i] == longest_proper_prefix(vocabulary, i)


@given(TOKENS)
def test_parents_come_first_by_length(tokens: list[bytes | str | None]) -> None:
    vocabulary = fake_vocabulary(tokens)
    assert sorted(vocabulary.by_length.tolist()) == list(range(vocabulary.size))
    seen = {-1}
    for i in vocabulary.by_length.tolist():
        assert vocabulary.prefix_parent[i] in seen
        seen.add(i)


def _changed(vocabulary: Vocabulary) -> list[Vocabulary]:
    kind = vocabulary.kind.copy()
    kind[2] = 2
    return [
        replace(vocabulary, data=np.array([97, 99, 98], dtype=np.uint8)),
        replace(vocabulary, offsets=np.array([0, 2, 3, 3])),
        replace(vocabulary, kind=kind),
        replace(vocabulary, texts=("a", "bb", "<s>")),
        replace(vocabulary, roles={"eos": 2}),
        replace(vocabulary, dummy_prefix=True),
    ]


def test_the_fingerprint_covers_every_part() -> None:
    vocabulary = fake_vocabulary([b"a", b"bc", "<s>"], roles={"bos": 2})
    prints = {vocabulary.fingerprint, *(changed.fingerprint for changed in _changed(vocabulary))}
    assert len(prints) == 7
    assert fake_vocabulary([b"a", b"bc", "<s>"], roles={"bos": 2}).fingerprint == vocabulary.fingerprint


def test_special_tokens_pair_one_to_one() -> None:
    student = fake_vocabulary(["<s>", "</s>", "<turn>"], {"bos": 0, "eos": 1, "turn_end": 1, "turn_start": 2})
    teacher = fake_vocabulary(["<end>", "<eot>", "<pad>"], {"bos": 0, "eos": 0, "turn_end": 1, "pad": 2})
    assert pair_specials(student, teacher) == {1: 0}  # <end> is taken when BOS comes, and </s> when the turn's end does


@pytest.mark.parametrize("role", ["pad", "unk"])
def test_lost_and_filling_tokens_pair_with_nothing(role: str) -> None:
    vocabulary = fake_vocabulary(["<x>"], {role: 0})
    assert pair_specials(vocabulary, vocabulary) == {}
    assert role_masks(vocabulary).tolist() == [0]


def test_an_id_with_two_roles_has_both_bits() -> None:
    masks = role_masks(fake_vocabulary(["<end>", b"a"], {"eos": 0, "turn_end": 0}))
    assert masks.tolist() == [1 << PAIRED_ROLES.index("eos") | 1 << PAIRED_ROLES.index("turn_end"), 0]
