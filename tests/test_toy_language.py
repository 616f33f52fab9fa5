"""The toy language's truth is exact, and losses are without bias where theory says so."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.prefix_study import excess_bits, projection_of
from benchmarks.toy_cover import Covers, CoverSettings
from benchmarks.toy_language import SPACE, Language, make_language
from benchmarks.toy_objectives import (
    Objective,
    alm_objective,
    ce_objective,
    cover_objective,
    p_kl_objective,
    teacher_records,
)
from benchmarks.toy_pair import Pair
from benchmarks.toy_tokens import TokenStates, train_tokenizer
from xtoken_core.projection import ProjectionSettings

ALL_THREE = CoverSettings(inside=True, back=1, canonical="pair")


@pytest.fixture(scope="module")
def language() -> Language:
    return make_language(0)


@pytest.fixture(scope="module")
def sides(language: Language, tmp_path_factory: pytest.TempPathFactory) -> dict[str, TokenStates]:
    """Two like real ones; single bytes; letters one by one, but three digits together."""
    folder: Path = tmp_path_factory.mktemp("toy")
    settings = {"three": (40, 3), "one": (50, 1), "bytes": (0, 1), "numbers": (0, 3)}
    return {
        name: TokenStates.of(language, train_tokenizer(folder / name, [language], merges, digits))
        for name, (merges, digits) in settings.items()
    }


def pair_of(language: Language, student: TokenStates, teacher: TokenStates) -> Pair:
    return Pair(language, student, teacher, language.context_prob[:, None] * language.prob)


def gradient_at_truth(pair: Pair, loss: Objective) -> float:
    table = torch.from_numpy(pair.student.truth).float().clamp(min=1e-12).log().requires_grad_()
    loss(table).backward()
    return float(table.grad.abs().sum())


def test_contexts_occur_as_often_as_they_follow_each_other(language: Language):
    assert language.prob.sum(axis=1) == pytest.approx(1.0)
    into = [language.context_prob @ (language.prob * (language.next_context == c)).sum(axis=1) for c in range(3)]
    assert language.context_prob == pytest.approx(into)


@pytest.mark.parametrize("name", ["three", "one"])
def test_items_are_tokenized_the_same_in_any_text(language: Language, sides: dict[str, TokenStates], name: str):
    drawn = [item for _, item in language.sample(300, seed=3)]
    text = "".join(language.items[item] + SPACE for item in drawn)
    expected = [token for item in drawn for token in sides[name].paths[item]]
    assert sides[name].tokenizer.encode_batch([text]).row(0).tolist() == expected


@pytest.mark.parametrize("name", ["three", "one"])
def test_the_truth_along_the_tokens_of_an_item_multiplies_to_its_probability(
    language: Language, sides: dict[str, TokenStates], name: str
):
    side = sides[name]
    assert side.truth.sum(axis=1) == pytest.approx(1.0)
    for context in range(3):
        for item, path in enumerate(side.paths):
            along = side.truth[list(side.state[context][item]), list(path)].prod()
            assert along == pytest.approx(language.prob[context, item], rel=1e-9)


def test_only_the_truth_has_no_excess(language: Language, sides: dict[str, TokenStates]):
    pair = pair_of(language, sides["three"], sides["one"])
    truth = torch.from_numpy(pair.student.truth).log()
    assert excess_bits(pair, truth.clamp(min=-1e4)) == pytest.approx(0.0, abs=1e-9)
    assert excess_bits(pair, torch.zeros_like(truth)) > 1.0


def test_chunks_are_the_finest_common_partition(language: Language, sides: dict[str, TokenStates]):
    """By hand: how often a chunk of two student tokens begins is how often items are that have one."""
    pair = pair_of(language, sides["three"], sides["one"])
    table = pair.chunk_table()
    ends = [set(side.ends[item]) for item in range(len(language.items)) for side in (pair.student, pair.teacher)]
    common = [sorted(student & teacher) for student, teacher in zip(ends[::2], ends[1::2], strict=True)]
    of_item = language.context_prob @ language.prob
    chunks = float(np.dot(of_item, [len(offsets) for offsets in common]))
    tokens = float(np.dot(of_item, [len(path) for path in pair.student.paths]))
    sizes = table.chunks.student.counts(len(table.chunks)).float()
    assert float(table.weight.sum()) == pytest.approx(1.0)
    assert float((table.weight * sizes).sum()) == pytest.approx(tokens / chunks, rel=1e-5)


def test_with_one_tokenizer_a_perfect_student_sees_nothing(language: Language, sides: dict[str, TokenStates]):
    pair = pair_of(language, sides["three"], sides["three"])
    table = pair.chunk_table()
    records = teacher_records(pair, k=8)
    for settings in (CoverSettings(), ALL_THREE):
        assert gradient_at_truth(pair, cover_objective(Covers(pair, records, settings))) < 1e-3
    assert gradient_at_truth(pair, alm_objective(pair, table)) < 1e-3
    assert gradient_at_truth(pair, ce_objective(pair)) < 1e-3


@pytest.mark.parametrize(("student", "teacher"), [("bytes", "numbers"), ("numbers", "bytes")])
def test_covers_have_no_bias_where_all_joins_are_of_digits(
    language: Language, sides: dict[str, TokenStates], student: str, teacher: str
):
    pair = pair_of(language, sides[student], sides[teacher])
    records = teacher_records(pair, k=1000)
    covers = gradient_at_truth(pair, cover_objective(Covers(pair, records, ALL_THREE)))
    plain = gradient_at_truth(pair, cover_objective(Covers(pair, records, CoverSettings())))
    p_kl = gradient_at_truth(pair, p_kl_objective(pair, pair.chunk_table(), projection_of(pair, ProjectionSettings())))
    assert covers < 1e-3
    assert plain > 0.02
    assert p_kl > 0.02
