"""One configuration per run: the same records check a YAML file, `key=value` overrides and a form in the Prefect UI."""

import re
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from flows.corpus_config import CorpusConfig, Name
from trainer.job import Architecture, TrainingSettings, require_used
from trainer.loss_settings import Positive, Settings, TeacherLoss
from xtoken_core.loss_options import TeacherMode
from xtoken_core.projection import CooccurrenceSettings, NearestSettings, ProjectionSettings
from xtoken_core.text.minhash import LOWEST_THRESHOLD

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # a Path keeps one slash of two


class ConfigError(ValueError):
    """A configuration that cannot work; the message lists every problem, found before any work started."""


class ModelConfig(Settings):
    """A model with its tokenizer: folders or hub ids. Without `tokenizer` the model's own is used."""

    model: str | None = None
    tokenizer: str | None = None
    tokenizer_lossy: bool = Field(default=False, description="accept a tokenizer that changes text, e.g. its case")
    max_length: Positive = 2048

    @model_validator(mode="after")
    def _has_a_tokenizer(self) -> Self:
        if self.model is None and self.tokenizer is None:
            raise ValueError("a `tokenizer` is needed, or a `model` that brings one")
        return self

    @property
    def tokenizer_reference(self) -> str:
        """Where the tokenizer is: its own key, else the model's folder or hub id."""
        reference = self.tokenizer or self.model
        assert reference is not None
        return reference


class StudentConfig(ModelConfig):
    """The model to train. `model: null` makes a new one from `architecture`."""

    architecture: Architecture | None = None

    @model_validator(mode="after")
    def _architecture_is_for_a_new_model(self) -> Self:
        if self.model is not None and self.architecture is not None:
            raise ValueError(
                "student has both `model` and `architecture`: `architecture` is for a new model, remove one"
            )
        return self


class TeacherConfig(ModelConfig, TeacherLoss):
    """A model to learn from. Commands that need no forward pass accept a teacher without `model`."""

    name: Name
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    source: Literal["cache"] = "cache"
    projection: Path | None = Field(
        default=None, description="a .pt projection of NeMo-RL's x_token, which is taken instead of building one"
    )


class WindowsConfig(Settings):
    """How documents are cut into windows, before any tokenizer sees them."""

    max_bytes: Annotated[int, Field(ge=16)] = 4096
    windows_per_shard: Positive = 4096


class PrepareConfig(Settings):
    """Where and with what the corpus is encoded and aligned; the result does not depend on it."""

    runner: Literal["threads", "ray"] = Field(default="threads", description="ray: the cluster that RAY_ADDRESS names")
    threads: Annotated[int, Field(ge=0)] = Field(default=0, description="of this process; 0 for its cores, at most 8")
    encoder: Literal["auto", "tokenizers"] = Field(
        default="auto", description="auto: gigatoken where it is proved to give the same ids, else tokenizers"
    )

    @model_validator(mode="after")
    def _threads_are_used(self) -> Self:
        if self.runner == "ray" and self.threads:
            raise ValueError("prepare.threads is for `runner: threads`; Ray uses all CPUs of its cluster: remove it")
        return self


class ScreeningConfig(Settings):
    """What is done about documents that the corpus has nearly twice, and about texts of evaluation sets in it."""

    near_duplicates: Literal["report", "drop", "off"] = Field(
        default="report", description="drop: training documents that are nearly the same as one that stays are left out"
    )
    threshold: Annotated[float, Field(ge=LOWEST_THRESHOLD, le=1)] | None = Field(
        default=None, description="the similarity (Jaccard, of runs of five words) of near-duplicates; default: 0.8"
    )
    overlap: Literal["report", "drop"] | None = Field(
        default=None, description="for corpus.evaluation_sets; drop: training documents are left out; default: report"
    )
    ngram: Annotated[int, Field(ge=4, le=64)] | None = Field(
        default=None, description="words in a run that an evaluation set and a document share; default: 13"
    )

    @field_validator("near_duplicates", mode="before")
    @classmethod
    def _off_is_a_word(cls, value: Any) -> Any:
        return "off" if value is False else value  # YAML reads a bare `off` as false

    @model_validator(mode="after")
    def _threshold_is_used(self) -> Self:
        if self.near_duplicates == "off" and self.threshold is not None:
            raise ValueError("screening.threshold is for near_duplicates, which is `off`: remove one of the two")
        return self


class ChatsConfig(Settings):
    """How chats are rendered, by each model's own template."""

    thinking: Literal["keep", "drop"] = Field(default="keep", description="thoughts of the assistant before it answers")
    day: date = Field(default=date(2024, 7, 26), description="today's date, for templates that write it")


class NearestConfig(NearestSettings):
    """Tokens with vectors that lie next to each other, and what gives the vectors."""

    model: str = Field(
        description="a language model, whose input embeddings are averaged, or one of sentence-transformers: a folder "
        "or hub id"
    )


class ProjectionConfig(ProjectionSettings):
    """How the projection is built; the last two rules are off unless they are here."""

    nearest: NearestConfig | None = None
    cooccurrence: CooccurrenceSettings | None = Field(
        default=None, description="count which tokens meet in the corpus, which is prepared first; {} for the defaults"
    )

    @property
    def vectors_model(self) -> str | None:
        """What gives the vectors; None where they are not used."""
        return self.nearest.model if self.nearest and self.nearest.weight else None

    @property
    def counts_corpus(self) -> bool:
        """Whether the corpus is needed."""
        return self.cooccurrence is not None and self.cooccurrence.weight > 0


class CacheConfig(Settings):
    """What is kept of a teacher's distribution. `top_k: 0` keeps the whole vocabulary (small vocabularies only)."""

    top_k: Annotated[int, Field(ge=0)] = 64
    codec: Literal["float16", "float32"] = "float16"
    dtype: Literal["float32", "bfloat16"] = "float32"
    batch_tokens: Positive = Field(default=4096, description="tokens, padding included, of one teacher forward")


class BaselineConfig(Settings):
    """Also train the student on cross-entropy alone, with the same seed, data and steps."""

    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class EvaluationConfig(Settings):
    """What `xtoken evaluate` measures besides bits per byte."""

    checkpoint: str | None = Field(default=None, description="a checkpoint folder; default: the run's best")
    tasks: tuple[str, ...] = Field(default=(), description="lm-eval task names (needs the `eval` extra)")
    task_limit: Positive | None = None

    @model_validator(mode="after")
    def _limit_has_tasks(self) -> "EvaluationConfig":
        if self.task_limit is not None and not self.tasks:
            raise ValueError(
                "evaluation.task_limit is set but evaluation.tasks is empty: name tasks or remove the limit"
            )
        return self


class RunConfig(Settings):
    """Everything about one run."""

    name: Name = "run"
    workspace: Path = Path("workspace")
    student: StudentConfig
    teachers: tuple[TeacherConfig, ...] = Field(min_length=1)
    corpus: CorpusConfig | None = None
    windows: WindowsConfig = WindowsConfig()
    screening: ScreeningConfig = ScreeningConfig()
    prepare: PrepareConfig = PrepareConfig()
    chats: ChatsConfig = ChatsConfig()
    projection: ProjectionConfig = ProjectionConfig()
    cache: CacheConfig = CacheConfig()
    training: TrainingSettings = TrainingSettings()
    baseline: BaselineConfig | None = None
    evaluation: EvaluationConfig = EvaluationConfig()

    @field_validator("workspace")
    @classmethod
    def _is_a_local_folder(cls, workspace: Path) -> Path:
        if _URL.match(str(workspace)):
            raise ValueError(f"{workspace} is a URL, this version works in a local folder: give a path")
        return workspace.expanduser()

    @field_validator("teachers")
    @classmethod
    def _names_differ(cls, teachers: tuple[TeacherConfig, ...]) -> tuple[TeacherConfig, ...]:
        names = [teacher.name for teacher in teachers]
        if len(set(names)) < len(names):
            raise ValueError(f"teacher names must differ, got {names}")
        return teachers

    @model_validator(mode="after")
    def _training_settings_are_used(self) -> "RunConfig":
        require_used(self.training, self.teachers, [teacher.weight for teacher in self.teachers])
        return self

    @model_validator(mode="after")
    def _losses_can_be_served(self) -> "RunConfig":
        for teacher in self.teachers if self.cache.top_k != 0 else ():
            if teacher.needs_whole_distribution or self.training.combine.mode == TeacherMode.AVERAGED_LOGITS:
                what, instead = self._needing_all(teacher)
                raise ValueError(
                    f"teacher {teacher.name}: {what} needs the teacher's full distribution, but cache.top_k is "
                    f"{self.cache.top_k}: set `cache.top_k: 0` (keeps the whole vocabulary, for small ones) or "
                    f"{instead}; a live teacher would serve it too, this version has cached teachers only"
                )
        return self

    @model_validator(mode="after")
    def _covers_are_made_of_few_tokens(self) -> "RunConfig":
        names = [teacher.name for teacher in self.teachers if teacher.loss == "cover_kl"]
        if names and self.cache.top_k == 0:
            raise ValueError(
                f"teacher {names[0]}: loss cover_kl looks at all that a record stores, and cache.top_k 0 stores "
                "the whole vocabulary: set it to 64, or to a few hundred"
            )
        return self

    def _needing_all(self, teacher: TeacherConfig) -> tuple[str, str]:
        """What needs a teacher's full distribution, and what does not and could take its place."""
        if teacher.loss != "direct_kl":
            return f"loss {teacher.loss}", "`loss: prefix_kl`"
        if teacher.vocab_topk is not None:
            return (
                f"vocab_topk {teacher.vocab_topk} of direct_kl",
                "remove it, the stored tokens are compared then",
            )
        return f"training.combine.mode {self.training.combine.mode}", "mode sum"

    @model_validator(mode="after")
    def _there_is_a_corpus_to_count(self) -> "RunConfig":
        if self.projection.counts_corpus and self.corpus is None:
            raise ValueError(
                "projection.cooccurrence counts the corpus, and there is no `corpus`: add it or remove this"
            )
        return self

    @model_validator(mode="after")
    def _projection_settings_are_used(self) -> "RunConfig":
        if self.projection != ProjectionConfig() and all(teacher.projection for teacher in self.teachers):
            raise ValueError(
                "projection: every teacher has a `projection` file, so none is built with these settings: remove them"
            )
        return self

    @model_validator(mode="after")
    def _overlap_has_sets(self) -> "RunConfig":
        keys = [f"screening.{key}" for key in ("overlap", "ngram") if getattr(self.screening, key) is not None]
        if keys and self.corpus is not None and not self.corpus.evaluation_sets:
            raise ValueError(f"{', '.join(keys)}: for evaluation sets, add corpus.evaluation_sets or remove it")
        return self

    @model_validator(mode="after")
    def _sources_and_teachers_meet(self) -> "RunConfig":
        teachers, sources = [teacher.name for teacher in self.teachers], self.corpus.parts if self.corpus else ()
        for source in sources:
            unknown = [name for name in source.teachers or () if name not in teachers]
            if unknown:
                raise ValueError(f"source {source.name}: there is no teacher {', '.join(unknown)}, only {teachers}")
        for name in teachers if sources else ():
            if not any(source.is_read_by(name) for source in sources):
                raise ValueError(f"teacher {name} reads no source of the corpus: add it to a source or remove it")
        return self
