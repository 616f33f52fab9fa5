import numpy as np
import pytest
from fakes import fake_vocabulary, reproducible
from hypothesis import given
from hypothesis import strategies as st
from oracles_projection import similarity

from xtoken_core.projection import NameSettings, Rule
from xtoken_core.projection.names import name_entries

NAMES = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|end_of_text|>", "<|end|>", "<unk>", "<tool_call>", "<|Tool|>"]
names = st.lists(st.sampled_from(NAMES) | st.text("<|abe_>", min_size=1, max_size=8), max_size=8, unique=True)


@reproducible
@given(names, names, st.sampled_from([0.0, 0.3, 0.4, 0.7]))
def test_all_pairs_that_are_similar_enough(ours: list[str], theirs: list[str], threshold: float) -> None:
    student, teacher = fake_vocabulary([b"end", *ours, None]), fake_vocabulary([*theirs, b"<s>"])
    found = name_entries(student, teacher, np.ones(teacher.size, bool), NameSettings(threshold=threshold))
    expected = {(i, j): similarity(a, b) for i, a in enumerate(ours, 1) for j, b in enumerate(theirs)}
    expected = {pair: value for pair, value in expected.items() if value >= threshold}
    pairs = zip(found.student.tolist(), found.teacher.tolist(), strict=True)
    assert dict(zip(pairs, found.weight.tolist(), strict=True)) == pytest.approx(expected)
    assert set(found.rule.tolist()) <= {Rule.NAME}


def test_teacher_tokens_that_are_not_free_are_left_out() -> None:
    student, teacher = fake_vocabulary(["<|end|>"]), fake_vocabulary(["<|end_of_text|>", "<|end_of_turn|>"])
    found = name_entries(student, teacher, np.array([False, True]), NameSettings())
    assert found.teacher.tolist() == [1]


def pairs_of(ours: list[str], theirs: list[str]) -> set[tuple[str, str]]:
    student, teacher = fake_vocabulary(ours), fake_vocabulary(theirs)
    found = name_entries(student, teacher, np.ones(teacher.size, bool), NameSettings(threshold=0.2))
    return {(ours[i], theirs[j]) for i, j in zip(found.student.tolist(), found.teacher.tolist(), strict=True)}


def test_names_that_many_share_but_for_a_number_say_nothing() -> None:
    reserved = [f"<|reserved_special_token_{i}|>" for i in range(1_000)]
    unused = [f"<special_token{i}>" for i in range(3, 1_003)]
    assert pairs_of([*reserved, "<|end|>"], [*unused, "<|end_of_text|>"]) == {("<|end|>", "<|end_of_text|>")}
    assert pairs_of(reserved[:4], unused[:3]) == pairs_of(reserved[:3], unused[:4]) == set()


def test_a_few_names_with_numbers_are_names() -> None:
    ours, theirs = [f"<step_{i}>" for i in range(3)], [f"<|step|>_{i}" for i in range(3)]
    assert pairs_of(ours, theirs) >= {*zip(ours, theirs, strict=True)}


def test_only_words_or_only_letters() -> None:
    student, teacher = fake_vocabulary(["<|tool_end|>"]), fake_vocabulary(["<end_of_tool>"])
    for letters in (0.0, 1.0):
        found = name_entries(student, teacher, np.ones(1, bool), NameSettings(letters=letters))
        assert found.weight.tolist() == pytest.approx([0.48 if letters else 1.0])
