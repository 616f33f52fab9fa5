"""What the trainer is asked to do: plain records, cheap to import, checked before any work starts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from trainer.loss_settings import CombineSettings, DivergenceSettings, LossName, Positive, Settings, TeacherLoss
from xtoken_core.loss_options import TeacherMode

LoggerName = Literal["tensorboard", "wandb", "mlflow"]
# Workers run in folders of their own.
AbsolutePath = Annotated[Path, AfterValidator(Path.absolute)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Architecture(Settings):
    """A new Llama-architecture student; its vocabulary size follows from its tokenizer."""

    hidden_size: Positive = 192
    intermediate_size: Positive = 512
    layers: Positive = 4
    heads: Positive = 6
    kv_heads: Positive = 6
    tie_embeddings: bool = True

    @model_validator(mode="after")
    def _heads_divide(self) -> "Architecture":
        if self.hidden_size % self.heads or self.heads % self.kv_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} must be a multiple of heads {self.heads}, "
                f"and heads of kv_heads {self.kv_heads}"
            )
        return self


class TrainingSettings(Settings):
    """How a student is trained; a step is one optimizer step, whatever the number of workers."""

    steps: Positive = 1000
    batch_windows: Positive = Field(default=16, description="windows per optimizer step, over all workers")
    micro_batch_windows: Positive = Field(
        default=16,
        description="rows per forward pass of one worker: windows, or with `packing` rows of several windows",
    )
    packing: bool = Field(default=False, description="put several windows in a row, as long as the longest window")
    learning_rate: Annotated[float, Field(gt=0)] = 3e-4
    warmup_steps: Annotated[int, Field(ge=0)] = 50
    final_learning_rate: Fraction = Field(default=0.1, description="share of learning_rate at the end of the cosine")
    projection_learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None, description="also train the weights of p_kl's projections; null keeps them as they were built"
    )
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    ce_weight: Annotated[float, Field(ge=0)] = 0.1
    kd_weight: Annotated[float, Field(ge=0)] = 1.0
    dynamic_scaling: bool = Field(
        default=False, description="scale distillation to the size of cross-entropy, in place of the two weights"
    )
    temperature: Annotated[float, Field(gt=0)] = 1.0
    divergence: DivergenceSettings = DivergenceSettings()
    combine: CombineSettings = CombineSettings()
    seed: Annotated[int, Field(ge=0)] = 0
    evaluate_every: Positive = 100
    checkpoint_every: Positive = 100
    keep_checkpoints: Positive = Field(default=2, description="newest checkpoints kept beside the best one")
    workers: Positive = 1
    threads_per_worker: Annotated[int, Field(ge=0)] = Field(default=0, description="CPU threads; 0 shares all cores")
    max_failures: Annotated[int, Field(ge=0)] = Field(default=2, description="worker failures survived per run")
    loggers: tuple[LoggerName, ...] = ("tensorboard",)

    @model_validator(mode="after")
    def _has_a_loss(self) -> "TrainingSettings":
        if self.ce_weight == 0 and self.kd_weight == 0:
            raise ValueError(
                "ce_weight and kd_weight are both 0: there is nothing to train on, set one of them above 0"
            )
        fields = type(self).model_fields
        unused = [
            name for name in ("temperature", "divergence", "combine") if getattr(self, name) != fields[name].default
        ]
        if self.kd_weight == 0 and unused:
            raise ValueError(
                f"kd_weight is 0, and {' and '.join(unused)} say how to distil: set kd_weight above 0, or remove them"
            )
        if self.kd_weight == 0 and self.projection_learning_rate is not None:
            raise ValueError(
                "projection_learning_rate is set but kd_weight is 0: projections learn from distillation alone, set "
                "kd_weight above 0 or remove projection_learning_rate"
            )
        defaults = {name: type(self).model_fields[name].default for name in ("ce_weight", "kd_weight")}
        if self.dynamic_scaling and (self.ce_weight, self.kd_weight) != tuple(defaults.values()):
            raise ValueError(
                f"dynamic_scaling takes the place of ce_weight {self.ce_weight} and kd_weight {self.kd_weight}: remove "
                "it, or them"
            )
        if self.batch_windows % self.workers:
            raise ValueError(f"batch_windows {self.batch_windows} must be a multiple of workers {self.workers}")
        return self


class TeacherInputs(TeacherLoss):
    """One teacher: its loss and its files."""

    name: str
    weight: float
    alignments: AbsolutePath
    cache: AbsolutePath
    vocabulary: AbsolutePath
    projection: AbsolutePath | None = None  # of losses that need one


def require_used(settings: TrainingSettings, teachers: Sequence[TeacherLoss], weights: Sequence[float]) -> None:
    """ValueError if a setting would not be used, or cannot be, with these teachers and their given weights."""
    combine, losses = settings.combine, [teacher.loss for teacher in teachers]
    if combine != CombineSettings() and len(teachers) < 2:
        raise ValueError(f"training.combine is about several teachers, and there are {len(teachers)}: remove it")
    if combine.needs_scores and set(weights) != {1.0}:
        raise ValueError(
            f"training.combine takes the place of the teachers' weights {list(weights)}: remove them, or use mode sum "
            "without weights_by"
        )
    if combine.mode == TeacherMode.AVERAGED_LOGITS:
        _require_one_loss(teachers)
    if settings.divergence != DivergenceSettings() and losses and not set(losses) - {"uld", "alm"}:
        raise ValueError(
            f"training.divergence.kind {settings.divergence.kind} is not used by {' and '.join(sorted(set(losses)))}: "
            "remove it"
        )
    _require_projections(settings, losses)


def _require_one_loss(teachers: Sequence[TeacherLoss]) -> None:
    losses, columns = [teacher.loss for teacher in teachers], [teacher.vocab_topk for teacher in teachers]
    if set(losses) != {"direct_kl"}:
        raise ValueError(
            f"training.combine.mode averaged_logits is for teachers with the student's tokenizer and loss direct_kl, "
            f"and the losses are {losses}: use mode sum"
        )
    if len(set(columns)) > 1:
        raise ValueError(
            f"training.combine.mode averaged_logits makes one loss, and the teachers' vocab_topk are {columns}: give "
            "all of them the same"
        )


def _require_projections(settings: TrainingSettings, losses: Sequence[LossName]) -> None:
    """ValueError if projections are to be learned and none of the teachers' losses has one."""
    if settings.projection_learning_rate is not None and "p_kl" not in losses:
        raise ValueError(
            f"training.projection_learning_rate is {settings.projection_learning_rate}, but no teacher has a "
            "projection to learn: give a teacher `loss: p_kl`, or remove the setting"
        )


class SourceWeight(Settings):
    """How often an epoch sees each window of the source `name`; 0 leaves the source out of training."""

    name: str
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class StudentInputs(Settings):
    """The student: `model` is a folder that transformers can open, or None for a new model of `architecture`."""

    model: AbsolutePath | None
    architecture: Architecture
    tokenizer: AbsolutePath  # its files are copied into every checkpoint
    vocabulary: AbsolutePath
    max_length: Positive


class TrainJob(Settings):
    """One run of the trainer; everything it reads and where it writes. Without teachers it is plain cross-entropy."""

    run_folder: AbsolutePath
    windows: AbsolutePath
    student_tokens: AbsolutePath
    student: StudentInputs
    teachers: tuple[TeacherInputs, ...]
    settings: TrainingSettings
    source_weights: tuple[SourceWeight, ...] = ()  # of the sources that are not seen once an epoch

    @field_validator("source_weights")
    @classmethod
    def _names_differ(cls, weights: tuple[SourceWeight, ...]) -> tuple[SourceWeight, ...]:
        names = [weight.name for weight in weights]
        if len(set(names)) < len(names):
            raise ValueError(f"a source has one weight, got weights of {names}")
        return weights

    @model_validator(mode="after")
    def _all_is_used(self) -> "TrainJob":
        if not self.teachers:
            _require_projections(self.settings, ())
        else:
            require_used(self.settings, self.teachers, [teacher.weight for teacher in self.teachers])
        return self


class EvaluateJob(Settings):
    """Measure one checkpoint on the held-out windows."""

    checkpoint: AbsolutePath
    windows: AbsolutePath
    student_tokens: AbsolutePath
    student_vocabulary: AbsolutePath
    max_length: Positive
    batch_windows: Positive = 16
    tasks: tuple[str, ...] = ()  # names of lm-eval tasks; needs the `eval` extra
    task_limit: Positive | None = None  # examples per task


class Evaluation(Settings):
    """What an evaluation found."""

    bits_per_byte: float
    nats: float  # summed over the predicted tokens
    predicted_bytes: int  # bytes of the predicted tokens
    windows: int
    skipped_windows: int = 0  # longer than max_length
    tasks: dict[str, dict[str, float]] = Field(default_factory=dict)


class TrainResult(Settings):
    """How a run ended."""

    best_checkpoint: Path
    best_step: int
    best_bits_per_byte: float
    final_bits_per_byte: float
    steps: int
    seconds: float  # training time over all attempts, without start-up
    resumed_from: int | None = None  # the step of the checkpoint this call went on from
    reused: bool = False  # the run was finished already
