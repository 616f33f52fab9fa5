"""Scores of teachers, their weights, the choice of one, and the mean of their logits."""

import math

import numpy as np
import pytest
import torch
from fakes import fake_vocabulary, random_logits

from xtoken_core.loss_options import TeacherMetric
from xtoken_core.losses.sums import LossSum
from xtoken_core.losses.teachers import (
    TeacherScores,
    WeightSettings,
    averaged_logits,
    scores_of_logits,
    scores_of_records,
    select_teacher,
    teacher_weights,
    vocabulary_ratios,
)
from xtoken_core.topk import make_records

TARGETS = torch.tensor([1, -1, 0, 2])
OWN = torch.tensor([True, True, False, True])


def test_scores_are_means_over_the_positions_that_count_for_them():
    logits = random_logits(4, 5, seed=0)
    logits[1, 3] = -torch.inf  # a token without probability adds nothing to the entropy
    probs = [row.double().softmax(0).tolist() for row in logits]
    found = scores_of_logits(logits, TARGETS, OWN)
    entropies = [-sum(p * math.log(p) for p in row if p) for row in probs]
    expected = {
        TeacherMetric.CE: sum(math.log(probs[row][TARGETS[row]]) for row in (0, 2, 3)) / 3,
        TeacherMetric.ENTROPY: -sum(entropies[row] for row in (0, 1, 3)) / 3,
        TeacherMetric.MAX_PROB: sum(max(probs[row]) for row in (0, 1, 3)) / 3,
    }
    for metric, value in expected.items():
        assert found.score(metric).item() == pytest.approx(value, rel=1e-5), metric


def test_records_score_like_the_logits_that_they_were_made_of():
    logits, vocabulary = random_logits(4, 3, seed=0), fake_vocabulary([b"a", b"b", b"ab"])
    records = make_records(logits, TARGETS, vocabulary, k=2)
    kept = (records.next_logprob, records.entropy, records.topk_logprob[:, 0])
    found = scores_of_records(*(torch.from_numpy(np.asarray(one, dtype=np.float32)) for one in kept), OWN)
    expected = scores_of_logits(logits, TARGETS, OWN)
    for metric in TeacherMetric:
        assert found.score(metric).item() == pytest.approx(expected.score(metric).item(), rel=1e-3), metric
    assert (found.ce.count, found.entropy.count) == (3, 3)


def test_sums_of_parts_give_the_scores_of_the_whole():
    logits = random_logits(4, 5, seed=0)
    whole = scores_of_logits(logits, TARGETS, OWN)
    parts = [scores_of_logits(logits[i], TARGETS[i], OWN[i]) for i in (slice(0, 1), slice(1, 4))]
    for name in ("ce", "entropy", "max_prob"):
        sums: list[LossSum] = [getattr(part, name) for part in parts]
        torch.testing.assert_close(sum(one.total for one in sums), getattr(whole, name).total)
        assert sum(one.count for one in sums) == getattr(whole, name).count


def test_without_positions_the_scores_are_zero():
    found = scores_of_logits(random_logits(0, 5, seed=0), torch.zeros(0, dtype=torch.int64), torch.zeros(0).bool())
    assert isinstance(found, TeacherScores)
    assert [found.score(metric).item() for metric in TeacherMetric] == [0, 0, 0]


def test_given_weights_are_used_as_they_are():
    found = teacher_weights([2.0, 0.5], [100, 10], None, WeightSettings())
    assert found.weight.tolist() == found.factor.tolist() == [2.0, 0.5]


def test_a_metric_replaces_the_given_weights():
    scores = torch.tensor([-2.0, -1.0])
    found = teacher_weights([2.0, 0.5], [100, 10], scores, WeightSettings(TeacherMetric.CE, alpha=2.0))
    assert found.weight.tolist() == pytest.approx([math.exp(-4) / (math.exp(-4) + math.exp(-2)), 0.8807971])
    assert torch.equal(found.factor, found.weight)


def test_by_vocabulary_both_the_losses_and_the_scores_grow_with_the_logarithm_of_its_size():
    settings = WeightSettings(TeacherMetric.ENTROPY, normalize_by_vocab=True)
    found = teacher_weights([1.0, 1.0], [100, 10], torch.tensor([-1.0, -1.0]), settings)
    expected = torch.tensor([-2.0, -1.0]).softmax(0)
    torch.testing.assert_close(found.weight, expected)
    torch.testing.assert_close(found.factor, expected * torch.tensor([2.0, 1.0]))
    assert vocabulary_ratios([7]).tolist() == [1.0]


@pytest.mark.parametrize(
    ("weights", "sizes", "scores", "message"),
    [
        ([1.0], [10], None, "weights by ce need the teachers' scores"),
        ([1.0], [10, 20], torch.zeros(1), "1 weights, 2 vocabularies"),
        ([1.0], [10], torch.zeros(2), "1 weights, 1 vocabularies and 2 scores"),
        ([1.0], [1], torch.zeros(1), "has 1 ids"),
    ],
)
def test_weights_that_cannot_be_are_refused(weights, sizes, scores, message):
    settings = WeightSettings(TeacherMetric.CE, normalize_by_vocab=True)
    with pytest.raises(ValueError, match=message):
        teacher_weights(weights, sizes, scores, settings)


def test_the_teacher_with_the_lowest_cross_entropy_is_selected_and_the_first_on_a_tie():
    assert select_teacher(torch.tensor([2.0, 1.0, 1.0])) == 1
    assert select_teacher(torch.tensor([torch.inf, torch.inf])) == 0
    with pytest.raises(ValueError, match="one is nan"):
        select_teacher(torch.tensor([1.0, torch.nan]))


def test_logits_are_averaged_by_weight():
    found = averaged_logits([torch.tensor([[1.0, 2.0]]), torch.tensor([[5.0, 0.0]]).bfloat16()], [3.0, 1.0])
    assert found.tolist() == [[2.0, 1.5]]
    without = averaged_logits([torch.tensor([[1.0, 2.0]]), torch.tensor([[-torch.inf, 0.0]])], [1.0, 0.0])
    assert without.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("columns", "weights", "message"),
    [
        ((2, 2), [1.0, -1.0], "none below 0"),
        ((2, 2), [0.0, 0.0], "at least one above"),
        ((2, 3), [1.0, 1.0], "give teachers of one shape"),
        ((2, 2), [1.0], "with 1 weights"),
    ],
)
def test_logits_that_cannot_be_averaged_are_refused(columns, weights, message):
    with pytest.raises(ValueError, match=message):
        averaged_logits([torch.zeros(1, size) for size in columns], weights)
