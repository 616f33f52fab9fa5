"""What our losses give for a recorded scenario: the loss, every metric and the gradient."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from benchmarks.golden_scenarios import Case, CrossTeacher, LossConfig, SameTeacher, Scenario, Teacher
from benchmarks.loss_forms import Forms, forms
from xtoken_core.loss_options import H_KL_THRESHOLD, DivergenceKind, TeacherMetric, TeacherMode
from xtoken_core.losses.columns import column_maxima, likeliest
from xtoken_core.losses.common import common_tokens
from xtoken_core.losses.divergence import Divergence
from xtoken_core.losses.form import Impl
from xtoken_core.losses.mix import MixSettings, mix
from xtoken_core.losses.settings import GoldSettings, KLSettings
from xtoken_core.losses.sums import LossSum, LossSums, Measure
from xtoken_core.losses.teachers import (
    TeacherScores,
    WeightSettings,
    averaged_logits,
    scores_of_logits,
    select_teacher,
    teacher_weights,
)

Side = Literal["student", "teacher"]
_METRICS = {
    Measure.TOP1_AGREEMENT: "proj_accuracy",
    Measure.COMMON_KL: "kl_common",
    Measure.UNCOMMON_L1: "l1_uncommon",
}


@dataclass(frozen=True, eq=False)
class Outcome:
    """metrics: all that the recording's scenario has. gradient: of `loss` with respect to the student's logits."""

    loss: float
    metrics: dict[str, float]
    gradient: torch.Tensor


@dataclass(frozen=True, eq=False)
class Distilled:
    """The distillation loss of a scenario, before it is mixed, and the metrics that belong to it."""

    kd: torch.Tensor
    metrics: dict[str, torch.Tensor | float]


def run_scenario(case: Case, scenario: Scenario, impl: Impl) -> Outcome:
    """Values and gradient in one go.

    Raises:
        ValueError: for input that the losses refuse.
    """
    leaf = case.tensors["student_logits"].clone().requires_grad_()
    run = _Run(case, scenario.loss_config, scenario.teachers, leaf.flatten(0, 1), forms(impl))
    distilled, config = run.distill(), scenario.loss_config
    ce, accuracy = run.next_token()
    mixed = mix(
        distilled.kd, ce.mean, MixSettings(config.kl_loss_weight, config.ce_loss_scale, config.dynamic_loss_scaling)
    )
    mixed.loss.backward()
    metrics = distilled.metrics | {
        "loss": mixed.loss,
        "kl_loss": distilled.kd,
        "ce_loss": ce.mean,
        "accuracy": accuracy.mean,
        "kl_loss_scale": mixed.kd_scale,
        "num_valid_samples": len(leaf),
    }
    assert leaf.grad is not None
    values = {name: torch.as_tensor(value).item() for name, value in metrics.items()}
    return Outcome(values["loss"], values, leaf.grad)


@dataclass(frozen=True, eq=False)
class _Run:
    case: Case
    config: LossConfig
    teachers: Sequence[Teacher]
    student_logits: torch.Tensor
    forms: Forms

    def distill(self) -> Distilled:
        mode = self.config.kd_loss_mode
        if mode == TeacherMode.SELECT_TEACHER:
            return self._selected()
        # The published code cannot average logits of two vocabularies, and sums the losses instead.
        if mode == TeacherMode.AVERAGED_LOGITS and all(isinstance(one, SameTeacher) for one in self.teachers):
            return self._averaged()
        return self._summed()

    def next_token(self) -> tuple[LossSum, LossSum]:
        """Cross-entropy and accuracy of the student."""
        rows, targets = self._predictions("student")
        sums = self.forms.cross_entropy(self.student_logits[rows], targets)
        return sums.loss, sums.measures[Measure.TOP1_AGREEMENT]

    def _summed(self) -> Distilled:
        metric = self.config.sum_weights_metric
        scores = None if metric is None else torch.stack([self._scores(one).score(metric) for one in self.teachers])
        settings = WeightSettings(metric, self.config.alpha, self.config.normalize_teacher_by_vocab)
        given, sizes = [one.weight for one in self.teachers], [self._size(one) for one in self.teachers]
        weights = teacher_weights(given, sizes, scores, settings)
        kd, metrics = torch.zeros(()), dict[str, torch.Tensor | float]()
        for i, teacher in enumerate(self.teachers):
            sums = self._loss(teacher)
            kd = kd + weights.factor[i] * sums.loss.mean
            metrics |= self._metrics(i, teacher, sums) | {f"weight_t{i}": weights.weight[i]}
        return Distilled(kd, metrics)

    def _selected(self) -> Distilled:
        scores = [self._scores(one).score(TeacherMetric.CE) for one in self.teachers]
        chosen = select_teacher(-torch.stack(scores))
        sums = self._loss(self.teachers[chosen])
        metrics = self._metrics(chosen, self.teachers[chosen], sums)
        return Distilled(sums.loss.mean, metrics | {"selected_teacher": float(chosen)})

    def _averaged(self) -> Distilled:
        rows, _ = self._predictions("student")
        logits = averaged_logits(
            [self._logits(one)[rows] for one in self.teachers], [one.weight for one in self.teachers]
        )
        sums = self.forms.direct_kl(self.student_logits[rows], logits, None, self._kl_settings())
        return Distilled(sums.loss.mean, {})

    def _loss(self, teacher: Teacher) -> LossSums:
        if isinstance(teacher, SameTeacher):
            return self._direct_kl(teacher)
        return self._gold(teacher) if self._is_gold(teacher) else self._p_kl(teacher)

    def _direct_kl(self, teacher: SameTeacher) -> LossSums:
        rows, _ = self._predictions("student")
        logits = self._logits(teacher)
        columns = likeliest(column_maxima(logits, self.case.student_size), self.config.vocab_topk)
        return self.forms.direct_kl(self.student_logits[rows], logits[rows], columns, self._kl_settings())

    def _p_kl(self, teacher: CrossTeacher) -> LossSums:
        logits = self._logits(teacher)
        columns = likeliest(column_maxima(logits, self.case.teacher_size), self.config.vocab_topk)
        chunks = self.case.chunks().only_exact() if self.config.exact_token_match_only else self.case.chunks()
        projection = self.case.projection()
        return self.forms.p_kl(self.student_logits, logits, chunks, projection, columns, self._kl_settings())

    def _gold(self, teacher: CrossTeacher) -> LossSums:
        threshold = H_KL_THRESHOLD if self._is_h_kl(teacher) else None
        common = common_tokens(self.case.projection(), self.case.student_size, self.case.teacher_size, threshold)
        settings = GoldSettings(self.config.temperature, self._divergence(), self.config.uncommon_topk)
        return self.forms.gold(self.student_logits, self._logits(teacher), self.case.chunks(), common, settings)

    def _is_gold(self, teacher: CrossTeacher) -> bool:
        return self.config.gold_loss if self._ignores_overrides(teacher.gold) else bool(teacher.gold)

    def _is_h_kl(self, teacher: CrossTeacher) -> bool:
        return self.config.xtoken_loss if self._ignores_overrides(teacher.xtoken) else bool(teacher.xtoken)

    def _ignores_overrides(self, override: bool | None) -> bool:
        return override is None or self.config.kd_loss_mode == TeacherMode.SELECT_TEACHER

    def _metrics(self, i: int, teacher: Teacher, sums: LossSums) -> dict[str, torch.Tensor | float]:
        found: dict[str, torch.Tensor | float] = {f"kl_loss_t{i}": sums.loss.mean}
        if isinstance(teacher, SameTeacher):
            return found
        counted = "num_valid_chunks" if self._is_gold(teacher) else "num_valid_pairs"
        named = {f"{_METRICS[name]}_t{i}": measure.mean for name, measure in sums.measures.items()}
        return found | named | {f"{counted}_t{i}": sums.loss.count}

    def _scores(self, teacher: Teacher) -> TeacherScores:
        side: Side = "teacher" if isinstance(teacher, CrossTeacher) else "student"
        rows, ids = self._predictions(side)
        own = self._kept(side).flatten()
        targets = torch.full(own.shape, -1).index_put((rows,), ids)
        return scores_of_logits(self._logits(teacher), targets, own)

    def _predictions(self, side: Side) -> tuple[torch.Tensor, torch.Tensor]:
        """The rows whose next token is kept, and these tokens."""
        kept = self._kept(side)
        kept[:, 0] = False
        rows = kept.roll(-1, dims=1).flatten().nonzero()[:, 0]
        return rows, self.case.tensors[f"{side}_input_ids"].long().flatten()[rows + 1]

    def _kept(self, side: Side) -> torch.Tensor:
        """Which tokens count, bool [B, positions]."""
        return self.case.tensors[f"{side}_token_mask"].bool() & self.case.tensors["sample_mask"].bool()[:, None]

    def _logits(self, teacher: Teacher) -> torch.Tensor:
        name = teacher.logits if isinstance(teacher, SameTeacher) else "teacher_logits"
        return self.case.tensors[name].flatten(0, 1)

    def _size(self, teacher: Teacher) -> int:
        return self.case.student_size if isinstance(teacher, SameTeacher) else self.case.teacher_size

    def _kl_settings(self) -> KLSettings:
        return KLSettings(self.config.temperature, self._divergence())

    def _divergence(self) -> Divergence:
        return Divergence(DivergenceKind.REVERSE if self.config.reverse_kl else DivergenceKind.FORWARD)
