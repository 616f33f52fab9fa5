"""Several teachers: what they score on their own text, and what follows from that for their weights.

The rules are those of the published cross-tokenizer distillation of NeMo-RL (x_token).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from xtoken_core.loss_options import TeacherMetric
from xtoken_core.losses.checks import require_ids, require_logits, require_together
from xtoken_core.losses.precision import log_softmax, upcast
from xtoken_core.losses.sums import LossSum


@dataclass(frozen=True)
class WeightSettings:
    """metric: what makes the weights, softmax(alpha * score); None keeps the given ones.
    normalize_by_vocab: each teacher's loss, and its score, are multiplied by log V_i / log(min V): nats grow with it.
    """

    metric: TeacherMetric | None = None
    alpha: float = 1.0
    normalize_by_vocab: bool = False


@dataclass(frozen=True, eq=False)
class TeacherScores:
    """Sums over a teacher's positions in its own tokens; they may be added up over micro-batches and ranks.

    ce: nats of the token that follows, where that token counts. entropy: in nats, and max_prob: the probability of the
        likeliest token, both at the positions whose own token counts, the last one included, as published.
    """

    ce: LossSum
    entropy: LossSum
    max_prob: LossSum

    def score(self, metric: TeacherMetric) -> torch.Tensor:
        """-mean cross-entropy, -mean entropy, or mean of the largest probability."""
        if metric == TeacherMetric.CE:
            return -self.ce.mean
        return -self.entropy.mean if metric == TeacherMetric.ENTROPY else self.max_prob.mean


@dataclass(frozen=True, eq=False)
class TeacherWeights:
    """weight: [n], what the settings give each teacher. factor: [n], what its loss is multiplied by."""

    weight: torch.Tensor
    factor: torch.Tensor


def scores_of_logits(logits: torch.Tensor, targets: torch.Tensor, own: torch.Tensor) -> TeacherScores:
    """From raw `logits` [N, columns] at temperature 1 and over all columns, a padded head's included, as published.

    targets: int [N], the token that follows where it counts for the cross-entropy, else -1.
    own: bool [N], whether the position's own token counts: entropy and the largest probability are of these positions.

    Raises:
        ValueError: for shapes that do not fit, or a target that is not an id of the logits.
    """
    require_logits("logits", logits)
    require_together(logits=logits, targets=targets, own=own)
    require_ids("targets", targets.clamp(min=0), logits.shape[1], "logits")
    log_probs = log_softmax(upcast(logits))
    next_logprob = log_probs.gather(1, targets.long().clamp(min=0)[:, None])[:, 0]
    entropy = -torch.where(log_probs > -torch.inf, log_probs.exp() * log_probs, 0.0).sum(dim=-1)
    return scores_of_records(next_logprob.where(targets >= 0, torch.nan), entropy, log_probs.amax(dim=-1), own)


def scores_of_records(
    next_logprob: torch.Tensor, entropy: torch.Tensor, top1_logprob: torch.Tensor, own: torch.Tensor
) -> TeacherScores:
    """From what records keep of N positions, each [N]; `next_logprob` is nan where no token follows that counts."""
    follows = ~next_logprob.isnan()
    return TeacherScores(
        ce=LossSum(-next_logprob.where(follows, 0.0).sum(), follows.sum()),
        entropy=LossSum(entropy.where(own, 0.0).sum(), own.sum()),
        max_prob=LossSum(top1_logprob.exp().where(own, 0.0).sum(), own.sum()),
    )


def teacher_weights(
    given: Sequence[float], sizes: Sequence[int], scores: torch.Tensor | None, settings: WeightSettings
) -> TeacherWeights:
    """The weights of n teachers with `sizes` ids each; `scores` [n] are those of the settings' metric, if any.

    Raises:
        ValueError: for a metric without scores, or lists of different lengths.
    """
    found = len(given) if scores is None else len(scores)
    if not len(given) == len(sizes) == found:
        raise ValueError(f"{len(given)} weights, {len(sizes)} vocabularies and {found} scores: give each teacher one")
    device = None if scores is None else scores.device
    ratio = (
        vocabulary_ratios(sizes).to(device) if settings.normalize_by_vocab else torch.ones(len(sizes), device=device)
    )
    if settings.metric is None:
        weight = torch.tensor(given, dtype=torch.float64, device=device)
    elif scores is None:
        raise ValueError(f"weights by {settings.metric} need the teachers' scores, which were not given")
    else:
        weight = (settings.alpha * scores.detach() * ratio).softmax(dim=0)
    return TeacherWeights(weight, weight * ratio)


def vocabulary_ratios(sizes: Sequence[int]) -> torch.Tensor:
    """log V_i / log(min V), float32 [n].

    Raises:
        ValueError: for a vocabulary of fewer than two ids.
    """
    if min(sizes) < 2:
        raise ValueError(f"a teacher has {min(sizes)} ids: to normalise by vocabulary each needs at least 2")
    return torch.tensor([math.log(size) / math.log(min(sizes)) for size in sizes])


def select_teacher(ce: torch.Tensor) -> int:
    """The index of the lowest cross-entropy in `ce` [n], the lowest index on a tie.

    Raises:
        ValueError: for a cross-entropy that is nan.
    """
    if ce.isnan().any():
        raise ValueError(f"the teachers' cross-entropies are {ce.tolist()}: one is nan, so its logits hold nan or inf")
    return int((ce == ce.min()).nonzero()[0, 0])


def averaged_logits(logits: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """The mean of the teachers' raw `logits`, all [N, V], weighted by weight / sum of weights, in float32 or wider.

    Raises:
        ValueError: for logits of different shapes, a negative weight, or weights that add to zero.
    """
    shapes = {tuple(one.shape) for one in logits}
    if len(shapes) != 1 or len(weights) != len(logits):
        raise ValueError(
            f"logits of the shapes {sorted(shapes)} with {len(weights)} weights: give teachers of one shape"
        )
    if min(weights) < 0 or sum(weights) == 0:
        raise ValueError(f"the teachers' weights are {list(weights)}: give none below 0 and at least one above")
    shares = [(one, weight / sum(weights)) for one, weight in zip(logits, weights, strict=True) if weight]
    total = torch.zeros_like(upcast(logits[0]))
    for one, share in shares:
        total += upcast(one) * share
    return total
