"""What all ranks know of each loss of a step before the student runs, and what each loss is multiplied by."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from trainer.loss_settings import CombineSettings
from trainer.terms import Planner, TermPlan
from xtoken_core.loss_options import TeacherMetric, TeacherMode
from xtoken_core.losses.sums import LossSum
from xtoken_core.losses.teachers import TeacherScores, WeightSettings, select_teacher, teacher_weights

_COUNTS = ("count", "chunks", "exact_chunks")
SUMS = len(_COUNTS) + 2 * len(TeacherMetric)  # a total and a count of each metric


def sums_of(plans: Sequence[TermPlan]) -> np.ndarray:
    """What `LossOfStep` knows of one loss, over this worker's micro-batches: float64 [SUMS]."""
    rows = [[*(getattr(plan, name) for name in _COUNTS), *_numbers(plan.scores)] for plan in plans]
    return np.sum([[0.0] * SUMS, *rows], axis=0)


def _numbers(scores: TeacherScores | None) -> list[float]:
    if scores is None:
        return [0.0] * (2 * len(TeacherMetric))
    sums = (getattr(scores, metric) for metric in TeacherMetric)
    return [float(number) for one in sums for number in (one.total, one.count)]


@dataclass(frozen=True, eq=False)
class LossOfStep:
    """One loss, summed over all ranks and micro-batches.

    sums: of `sums_of`. columns: int64 [K], the teacher ids that it compares; None for one that does not choose any.
    """

    sums: np.ndarray
    columns: torch.Tensor | None

    @property
    def count(self) -> float:
        """The items that the loss sums over."""
        return float(self.sums[0])

    @property
    def exact_share(self) -> float | None:
        """How many of the alignment's chunks are exact; None without chunks."""
        return float(self.sums[2] / self.sums[1]) if self.sums[1] else None

    @property
    def scores(self) -> TeacherScores:
        """How the teacher does on its own tokens."""
        pairs = self.sums[len(_COUNTS) :].reshape(-1, 2)
        return TeacherScores(
            **{
                metric: LossSum(torch.tensor(total), torch.tensor(count))
                for metric, (total, count) in zip(TeacherMetric, pairs, strict=True)
            }
        )


@dataclass(frozen=True, eq=False)
class LossWeights:
    """factors: float64 [losses], what each mean is multiplied by. weights: what of that is the teacher's weight.

    selected: which loss alone is used; None where all are.
    """

    factors: np.ndarray
    weights: np.ndarray
    selected: int | None = None

    @property
    def used(self) -> tuple[bool, ...]:
        """Which losses are computed at all."""
        return tuple((self.factors != 0).tolist())


class LossWeigher:
    """The rule of one run."""

    def __init__(self, settings: CombineSettings, given: Sequence[float], planners: Sequence[Planner]) -> None:
        self._mode = settings.mode
        alpha = 1.0 if settings.alpha is None else settings.alpha
        self._settings = WeightSettings(settings.weights_by, alpha, settings.normalize_by_vocabulary)
        self._given = list(given)
        self._sizes = [planner.teacher.vocabulary.size for planner in planners]

    def __call__(self, losses: Sequence[LossOfStep]) -> LossWeights:
        """The weights of a step's losses."""
        if not losses:
            return LossWeights(np.empty(0), np.empty(0))
        if self._mode == TeacherMode.AVERAGED_LOGITS:
            return LossWeights(np.ones(1), np.ones(1))
        if self._mode == TeacherMode.SELECT_TEACHER:
            chosen = select_teacher(-torch.stack([_score(loss, TeacherMetric.CE) for loss in losses]))
            return LossWeights(np.eye(len(losses))[chosen], np.eye(len(losses))[chosen], chosen)
        metric = self._settings.metric
        scores = None if metric is None else torch.stack([_score(loss, metric) for loss in losses])
        if scores is not None and scores.isneginf().all():
            scores = torch.zeros_like(scores)  # no teacher has anything in this step
        weights = teacher_weights(self._given, self._sizes, scores, self._settings)
        return LossWeights(weights.factor.double().numpy(), weights.weight.double().numpy())


def _score(loss: LossOfStep, metric: TeacherMetric) -> torch.Tensor:
    """-inf, the worst, for a teacher that has nothing in the step."""
    score = loss.scores.score(metric)
    return score if loss.scores.ce.count else torch.full_like(score, -torch.inf)
