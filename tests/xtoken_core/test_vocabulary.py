from dataclasses import replace

import numpy as np
import pytest
from fakes import fake_vocabulary
from hypothesis import given
from hypothesis import strategies as st
from oracles import longest_proper_prefix

from xtoken_core.roles import PAIRED_ROLES, counterparts, paired_roles
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


def bits(*roles: str) -> int:
    return sum(1 << PAIRED_ROLES.index(role) for role in roles)


def masks(student: Vocabulary, teacher: Vocabulary) -> tuple[list[int], list[int]]:
    """Those of the student and of the teacher, after a look at the other way round."""
    found = tuple(side.tolist() for side in paired_roles(student, teacher))
    assert found[::-1] == tuple(side.tolist() for side in paired_roles(teacher, student))
    return found


def test_special_tokens_pair_by_role() -> None:
    student = fake_vocabulary(["<s>", b"a", "</s>"], {"bos": 0, "eos": 2})
    teacher = fake_vocabulary(["<eos>", "<bos>", "<turn>"], {"eos": 0, "bos": 1, "turn_end": 2})
    assert masks(student, teacher) == ([bits("bos"), 0, bits("eos")], [bits("eos"), bits("bos"), 0])
    assert counterparts(student, teacher) == {0: 1, 2: 0}


def test_all_that_pair_with_one_id_count_as_one() -> None:
    student = fake_vocabulary(["</s>", "<turn>", "<s>"], {"eos": 0, "turn_end": 1, "bos": 2})
    teacher = fake_vocabulary(["<end>", "<bos>"], {"eos": 0, "turn_end": 0, "bos": 1})
    end = bits("eos", "turn_end")
    assert masks(student, teacher) == ([end, end, bits("bos")], [end, bits("bos")])
    assert counterparts(student, teacher) == {0: 0, 1: 0, 2: 1}
    assert counterparts(teacher, student) == {0: 0, 1: 2}


def test_what_is_joined_by_ids_of_both_sides_is_one() -> None:
    student = fake_vocabulary(["<s>", "</s>"], {"bos": 0, "turn_start": 0, "eos": 1, "turn_end": 1})
    teacher = fake_vocabulary(["<s>", "<1>", "<2>"], {"bos": 0, "eos": 0, "turn_start": 1, "turn_end": 2})
    assert masks(student, teacher) == ([bits(*PAIRED_ROLES)] * 2, [bits(*PAIRED_ROLES)] * 3)


def test_a_role_of_one_side_joins_nothing() -> None:
    student = fake_vocabulary(["<end>"], {"eos": 0, "turn_end": 0})
    teacher = fake_vocabulary(["</s>", "<turn>", b"word"], {"eos": 0, "turn_start": 1, "turn_end": 2})
    assert masks(student, teacher) == ([bits("eos")], [bits("eos"), 0, 0])


@pytest.mark.parametrize("role", ["pad", "unk"])
def test_lost_and_filling_tokens_pair_with_nothing(role: str) -> None:
    vocabulary = fake_vocabulary(["<x>"], {role: 0})
    assert masks(vocabulary, vocabulary) == ([0], [0])
    assert counterparts(vocabulary, vocabulary) == {}
