"""How a student learns from its teachers: which loss each has, and how several become one."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from xtoken_core.loss_options import (
    H_KL_THRESHOLD,
    P_KL_COLUMNS,
    UNCOMMON_TOPK,
    DivergenceKind,
    TeacherMetric,
    TeacherMode,
)

LossName = Literal["prefix_kl", "cover_kl", "direct_kl", "alm", "uld", "p_kl", "gold", "h_kl"]
PROJECTED: tuple[LossName, ...] = ("p_kl", "gold", "h_kl")  # losses that need a projection, and whole distributions
Positive = Annotated[int, Field(gt=0)]


class Settings(BaseModel):
    """Base of all settings: unknown keys are errors, values never change after they were checked."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DivergenceSettings(Settings):
    """Which way teacher and student are compared: forward is KL(teacher || student)."""

    kind: DivergenceKind = DivergenceKind.FORWARD
    beta: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, description="of jsd: the teacher's share of the mixture; default: 0.5"
    )

    @model_validator(mode="after")
    def _beta_is_used(self) -> "DivergenceSettings":
        if self.beta is not None and self.kind != DivergenceKind.JSD:
            raise ValueError(
                f"divergence.beta is {self.beta}, but it is for kind jsd, and the kind is {self.kind}: remove it"
            )
        return self


class CombineSettings(Settings):
    """How several teachers become one loss."""

    mode: TeacherMode = Field(
        default=TeacherMode.SUM,
        description="sum: weighted; select_teacher: each step the one with the lowest cross-entropy; averaged_logits: "
        "one loss against the weighted mean of their logits, for teachers with the student's tokenizer",
    )
    weights_by: TeacherMetric | None = Field(
        default=None, description="of sum: weights from how sure each teacher is, in place of the given ones"
    )
    alpha: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None, description="of weights_by: how much the best teacher is preferred; default: 1"
    )
    normalize_by_vocabulary: bool = Field(
        default=False,
        description="of sum: multiply each loss, and score, by log V / log min V, as published",
    )

    @model_validator(mode="after")
    def _all_is_used(self) -> "CombineSettings":
        for name in ("weights_by", "normalize_by_vocabulary") if self.mode != TeacherMode.SUM else ():
            if getattr(self, name):
                raise ValueError(
                    f"combine.{name} is {getattr(self, name)}, but it is for mode sum, and the mode is {self.mode}: "
                    "remove one of them"
                )
        if self.alpha is not None and self.weights_by is None:
            raise ValueError(f"combine.alpha is {self.alpha}, but it is for weights_by, which is not set: remove it")
        return self

    @property
    def needs_scores(self) -> bool:
        """Whether it matters how the teachers do on their own tokens."""
        return self.weights_by is not None or self.mode == TeacherMode.SELECT_TEACHER


class TeacherLoss(Settings):
    """Which loss a teacher is learnt from, and what that loss can be told; a key that it does not use is an error."""

    loss: LossName = "prefix_kl"
    vocab_topk: Positive | None = Field(
        default=None,
        description="of p_kl (default: 8192) and of direct_kl with whole distributions (default: all): how many of the "
        "teacher's ids are compared, those with the largest logits in the step",
    )
    uncommon_topk: Positive | None = Field(
        default=None, description="of gold and h_kl: how many probabilities outside the common tokens; default: 8192"
    )
    common_weight: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="of h_kl: the weight from which a projection's row is a common token; default: 0.6"
    )
    exact_chunks_only: bool = Field(default=False, description="of p_kl: leave out chunks whose bytes differ")

    @model_validator(mode="after")
    def _all_is_used(self) -> Self:
        used: dict[str, tuple[LossName, ...]] = {
            "vocab_topk": ("p_kl", "direct_kl"),
            "uncommon_topk": ("gold", "h_kl"),
            "common_weight": ("h_kl",),
            "exact_chunks_only": ("p_kl",),
        }
        for key, losses in used.items():
            if getattr(self, key) and self.loss not in losses:
                raise ValueError(
                    f"{key} is {getattr(self, key)}, but it is for {' and '.join(losses)}, and the loss is "
                    f"{self.loss}: remove one of them"
                )
        return self

    @property
    def options(self) -> dict[str, Any]:
        """What was set of the options; not the loss itself."""
        return self.model_dump(include=set(TeacherLoss.model_fields) - {"loss"}, exclude_defaults=True)

    @property
    def needs_whole_distribution(self) -> bool:
        """Whether records that leave something out do not do."""
        return self.loss in PROJECTED or (self.loss == "direct_kl" and self.vocab_topk is not None)

    @property
    def compared_columns(self) -> int | None:
        """How many of the teacher's ids are compared; None for all."""
        return P_KL_COLUMNS if self.loss == "p_kl" and self.vocab_topk is None else self.vocab_topk

    @property
    def uncommon_columns(self) -> int:
        """How many probabilities outside the common tokens are compared."""
        return UNCOMMON_TOPK if self.uncommon_topk is None else self.uncommon_topk

    @property
    def common_threshold(self) -> float | None:
        """What `common_tokens` takes: None for gold's own rule."""
        if self.loss == "gold":
            return None
        return H_KL_THRESHOLD if self.common_weight is None else self.common_weight
