"""One configuration per run: the same records check a YAML file, `key=value` overrides and a form in the Prefect UI."""

import re
import reprlib
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from trainer.job import Architecture, LossName, Positive, Settings, TrainingSettings
from xtoken_core.text.minhash import LOWEST_THRESHOLD

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # a Path keeps one slash of two
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
NotEmpty = Annotated[str, Field(min_length=1)]
T = TypeVar("T")
Filled = Annotated[tuple[T, ...], Field(min_length=1)]


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


class TeacherConfig(ModelConfig):
    """A model to learn from. Commands that need no forward pass accept a teacher without `model`."""

    name: Name
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    loss: LossName = "prefix_kl"
    source: Literal["cache"] = "cache"


class TextPlace(Settings):
    """Where documents are: files or a dataset of the hub, and the column that holds their text or chats."""

    files: Filled[NotEmpty] | None = Field(default=None, description="paths, folders, globs, fsspec URLs")
    dataset: NotEmpty | None = Field(default=None, description="a hub id or folder for the package `datasets`")
    subset: NotEmpty | None = None
    split: NotEmpty | None = Field(default=None, description="default: train")
    revision: NotEmpty | None = None
    text_column: NotEmpty | None = Field(default=None, description="default: text")
    messages_column: NotEmpty | None = Field(default=None, description="a column of chats, in place of text")

    @property
    def column(self) -> str:
        """The column to read."""
        return self.messages_column or self.text_column or "text"

    @model_validator(mode="after")
    def _one_place_and_one_column(self) -> Self:
        if self.files and self.dataset is not None:
            raise ValueError(
                "has both `files` and `dataset`: remove one, or make each a source of its own in `sources`"
            )
        if self.text_column is not None and self.messages_column is not None:
            raise ValueError("has both `text_column` and `messages_column`: a document is a text or a chat, remove one")
        keys = [key for key in ("subset", "split", "revision") if getattr(self, key) is not None]
        if keys and self.dataset is None:
            raise ValueError(f"{', '.join(keys)}: only for a `dataset`, remove it or name one")
        return self


class EvaluationSetConfig(TextPlace):
    """Texts that the student will be judged on, so that it should not be trained on them."""

    name: Name

    @model_validator(mode="after")
    def _has_a_place(self) -> Self:
        if not self.files and self.dataset is None:
            raise ValueError(f"source {self.name} has neither `files` nor a `dataset`: add one")
        return self


class SourceConfig(EvaluationSetConfig):
    """One part of the corpus, with a weight of its own and the teachers that read it."""

    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    teachers: Filled[str] | None = Field(default=None, description="default: all")

    def is_read_by(self, teacher: str) -> bool:
        """Whether the teacher of this name learns the student from this source."""
        return self.teachers is None or teacher in self.teachers


Named = TypeVar("Named", bound=EvaluationSetConfig)


class CorpusConfig(TextPlace):
    """Text to train on: one place written here, or a list of `sources`. Everybody else reads `parts`."""

    sources: Filled[SourceConfig] | None = None
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.01
    bad_rows: Literal["report", "error"] = Field(default="report", description="error: the first one ends the command")
    evaluation_sets: Filled[EvaluationSetConfig] | None = Field(
        default=None, description="texts that the corpus is searched for"
    )

    @property
    def parts(self) -> tuple[SourceConfig, ...]:
        """The sources; the short form is one that is named `corpus`."""
        return self.sources or (SourceConfig(name="corpus", **{key: getattr(self, key) for key in _PLACE_KEYS}),)

    @field_validator("sources", "evaluation_sets")
    @classmethod
    def _names_differ(cls, sources: tuple[Named, ...] | None) -> tuple[Named, ...] | None:
        names = [source.name for source in sources or ()]
        if len(set(names)) < len(names):
            raise ValueError(f"source names must differ, got {names}")
        return sources

    @model_validator(mode="after")
    def _has_one_form(self) -> Self:
        here = [key for key in _PLACE_KEYS if getattr(self, key)]
        if self.sources and here:
            raise ValueError(f"has `sources` and beside them {', '.join(here)}: move these into a source")
        if not self.sources and not self.files and self.dataset is None:
            raise ValueError("names no text: add `files`, a `dataset` or `sources`")
        return self


_PLACE_KEYS = tuple(TextPlace.model_fields)


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


class ProjectionConfig(Settings):
    """How the projection is built (see `xtoken_core.projection`)."""

    top_k: Positive = 4
    max_pieces: Positive = 4
    reverse: bool = True


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
    def _losses_can_be_served(self) -> "RunConfig":
        for teacher in self.teachers:
            if teacher.loss == "p_kl" and self.cache.top_k != 0:
                raise ValueError(
                    f"teacher {teacher.name}: loss p_kl needs the teacher's full distribution, but cache.top_k is "
                    f"{self.cache.top_k}: set `cache.top_k: 0` (keeps the whole vocabulary, for small ones) or "
                    "`loss: prefix_kl`; a live teacher would serve it too, this version has cached teachers only"
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


# pydantic's messages speak of Python; these speak of YAML.
_PLAIN = {"extra_forbidden": "unknown key, check its spelling", "missing": "required key is missing, add it"}
_REWORDED = {
    "tuple_type": "must be a list, such as [a, b]",
    "too_short": "must have at least one item",
    "model_type": "must hold settings (`key: value`)",
}


def load_config(path: Path, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a YAML file, apply `key=value` overrides and check the whole.

    Raises:
        ConfigError: naming the file and every problem in it.
    """
    data = _read_yaml(path)
    for override in overrides:
        _apply(data, override)
    try:
        return RunConfig.model_validate(data)
    except ValidationError as error:
        problems = [f"  {_describe(problem)}" for problem in error.errors() if not _follows(problem)]
        raise ConfigError("\n".join([f"{path} has {len(problems)} problem(s):", *problems])) from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        data = _parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the config {path}: {error.strerror}; give the path of a YAML file") from None
    except _WrittenTwice as error:
        raise ConfigError(f"{path}, {error}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date that does not exist
        raise ConfigError(f"{path} is not YAML: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold a mapping of settings, not {type(data).__name__}")
    return data


class _WrittenTwice(ValueError):
    """A key that a YAML mapping has twice; the message names its lines."""


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that is written twice, where YAML's own loader silently takes the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            same, line = (key.tag, key.value), key.start_mark.line + 1
            if same in lines:
                raise _WrittenTwice(
                    f"line {line}: the key {key.value!r} is there already, in line {lines[same]}: remove one of the two"
                )
            lines[same] = line
        return node


def _parse(text: str) -> Any:
    return yaml.load(text, _UniqueKeys)


def _follows(problem: Any) -> bool:
    """Whether it only follows from another: pydantic calls a list too short when one of its items is wrong."""
    return problem["type"] == "too_short" and bool(problem["input"])


def _describe(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"]) or "config"
    if problem["type"] == "value_error":  # ours: names values and remedy already
        return f"{where}: {problem['msg'].removeprefix('Value error, ')}"
    if problem["type"] in _PLAIN:
        return f"{where}: {_PLAIN[problem['type']]}"
    return f"{where}: {_REWORDED.get(problem['type'], problem['msg'])}, got {reprlib.repr(problem['input'])}"


def _apply(data: dict[str, Any], override: str) -> None:
    """Set one dotted path (list positions are numbers) to a YAML value, in place."""
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise ConfigError(f"override {override!r} is not of the form key=value, e.g. training.steps=100")
    *parents, last = path.split(".")
    target: Any = data
    for part in parents:
        target = _child(target, part, path)
    try:
        value = _parse(text)
    except _WrittenTwice as error:
        raise ConfigError(f"override {override!r}, {error}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(
            f"override {override!r}: the value is not YAML: {error}; quote it if it is meant as text"
        ) from None
    if isinstance(target, list):
        target[_index(target, last, path)] = value
    else:
        target[last] = value


def _child(target: Any, part: str, path: str) -> Any:
    key = _index(target, part, path) if isinstance(target, list) else part
    if isinstance(target, dict) and target.get(key) is None:
        target[key] = {}
    child = target[key]
    if not isinstance(child, dict | list):
        raise ConfigError(f"override {path!r}: {part!r} is the value {child!r}, remove what follows it in the key")
    return child


def _index(items: list[Any], part: str, path: str) -> int:
    if not part.isdecimal() or int(part) >= len(items):
        raise ConfigError(
            f"override {path!r}: {part!r} is not a position in a list of {len(items)} (they count from 0); "
            "to add to a list give the whole list"
        )
    return int(part)
