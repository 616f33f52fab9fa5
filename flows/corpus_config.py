"""Where the texts are that a run reads: the part `corpus` of its configuration."""

from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, field_validator, model_validator

from trainer.loss_settings import Settings

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
NotEmpty = Annotated[str, Field(min_length=1)]
T = TypeVar("T")
Filled = Annotated[tuple[T, ...], Field(min_length=1)]


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

    def key_of(self, source: SourceConfig) -> str:
        """Where the config has one of `parts`, for messages."""
        names = [part.name for part in self.sources or ()]
        return f"corpus.sources.{names.index(source.name)}" if names else "corpus"

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
