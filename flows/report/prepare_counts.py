"""What preparation made, counted shard by shard: sums by origin and script, sizes of chunks, the worst windows.

Memory is bounded by one shard and by the number of files, whatever the corpus: no number per window is kept, but for
the worst windows.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import polars as pl
import pyarrow as pa

from storage.alignments import alignment_of
from storage.artifact import Artifact
from storage.columns import from_list_column, from_string_column
from storage.windows import FileRows, Reading
from xtoken_core.chunk_sizes import ChunkSizes
from xtoken_core.ragged import Ragged
from xtoken_core.text.scripts import SCRIPTS, dominant_scripts
from xtoken_core.vocabulary import Vocabulary

WORST = 20  # windows kept of each teacher
_PARTS = 256  # shards
ORIGIN = ("source", "file", "split", "script")
PAIR_SUMS = (
    *("windows", "bytes", "exact_bytes", "inexact_text_bytes", "chunks", "exact_chunks"),
    *("student_tokens", "teacher_tokens"),
)


@dataclass(frozen=True)
class Model:
    """The student or a teacher. tokens: of the windows. max_length: the most tokens of a window that it reads."""

    name: str
    tokens: Artifact
    max_length: int


@dataclass(frozen=True)
class Pair:
    """A teacher by its name in the config, and what aligns it with the student."""

    name: str
    teacher: Model
    alignments: Artifact


@dataclass(frozen=True)
class Preparation:
    """Everything that preparation made for one config."""

    windows: Artifact
    student: Model
    student_vocabulary: Vocabulary
    pairs: tuple[Pair, ...]

    @property
    def models(self) -> tuple[Model, ...]:
        """The student, then the teachers."""
        return (self.student, *(pair.teacher for pair in self.pairs))


@dataclass
class Sums:
    """Rows of the same origin added up, in the order in which they came.

    Those of several shards only now and then: at every shard it would take the square of the number of files. who: the
    column that says whose rows they are.
    """

    who: str
    parts: list[pl.DataFrame] = field(default_factory=list)

    def add(self, rows: pl.DataFrame) -> None:
        """The rows of a shard."""
        self.parts.append(self._merged([rows]))
        if len(self.parts) > _PARTS:
            self.parts = [self.total]

    @property
    def total(self) -> pl.DataFrame:
        """The sums of all rows so far."""
        return self._merged(self.parts)

    def _merged(self, parts: list[pl.DataFrame]) -> pl.DataFrame:
        return pl.concat(parts, how="vertical").group_by(self.who, *ORIGIN, maintain_order=True).sum()


@dataclass
class PairCounts:
    """Sums over the windows that student and teacher both read.

    sums: a row for each teacher, source, file, split and script. worst: the windows with most bytes of text in inexact
    chunks, those first; no window where all is exact.
    """

    sums: Sums = field(default_factory=lambda: Sums("teacher"))
    worst: pl.DataFrame = field(default_factory=pl.DataFrame)
    sizes: ChunkSizes = field(default_factory=ChunkSizes.none)


@dataclass(frozen=True)
class Counts:
    """models: a row for each model, source, file, split and script. pairs: by teacher."""

    models: pl.DataFrame
    pairs: Mapping[str, PairCounts]


def count(preparation: Preparation) -> Counts:
    """Read every shard once."""
    models = Sums("model")
    pairs = {pair.name: PairCounts() for pair in preparation.pairs}
    for shard in _shards(preparation.windows):
        for model in preparation.models:
            models.add(_model_rows(shard, model))
        for pair in preparation.pairs:
            _add(pairs[pair.name], shard, pair, preparation.student_vocabulary)
    return Counts(models.total, pairs)


@dataclass(frozen=True)
class _Shard:
    """A shard of the windows. reading: of its first file, of whose source they all are. files: of each window."""

    index: int
    reading: Reading
    files: list[str]
    windows: pa.Table

    @cached_property
    def rows(self) -> pl.DataFrame:
        """For each window its origin and its bytes."""
        starts, ends = (self.windows[name].to_numpy() for name in ("byte_start", "byte_end"))
        scripts = np.array(SCRIPTS)[dominant_scripts(_texts(self.windows, self.reading.is_chat))]
        split = pl.from_arrow(self.windows["split"])
        rows = pl.DataFrame({"split": split, "script": scripts, "text_bytes": ends - starts})
        return rows.with_columns(pl.lit(self.reading.source).alias("source"), pl.Series("file", self.files))


def _shards(windows: Artifact) -> Iterator[_Shard]:
    files = FileRows.of(windows)
    for index in range(len(windows)):
        yield _Shard(index, files.first_in(index), files.names(index), windows.table(index))


def _texts(windows: pa.Table, is_chat: bool) -> Ragged:
    if not is_chat:
        return from_string_column(windows["text"])
    return from_string_column(pa.chunked_array([[_said(chat) for chat in windows["messages"].to_pylist()]]))


def _said(chat: str) -> str:
    """The contents of a chat alone: its keys and roles are Latin in every language."""
    return "\n".join(str(message.get("content") or "") for message in json.loads(chat))


def _model_rows(shard: _Shard, model: Model) -> pl.DataFrame:
    """What is added up of each window of one shard. bytes, tokens: of the windows that have tokens."""
    lengths = from_list_column(model.tokens.table(shard.index)["ids"]).lengths
    read = lengths > 0
    rows = shard.rows.with_columns(
        pl.lit(model.name).alias("model"),
        windows=pl.Series(read.astype(np.int64)),
        bytes=pl.col("text_bytes") * pl.Series(read),
        tokens=pl.Series(lengths),
        too_long=pl.Series((lengths > model.max_length).astype(np.int64)),
        without_tokens=pl.Series((~read).astype(np.int64)),
    )
    return rows.drop("text_bytes")


def _add(counts: PairCounts, shard: _Shard, pair: Pair, vocabulary: Vocabulary) -> None:
    """Count one shard of a teacher's alignments."""
    table = pair.alignments.table(shard.index)
    ids = from_list_column(table["student_ids"])
    differing = counts.sizes.add(ids, alignment_of(table), vocabulary)
    lengths = ids.lengths, from_list_column(table["teacher_ids"]).lengths
    rows = shard.rows.with_columns(
        pl.lit(pair.name).alias("teacher"),
        *(pl.Series(name, table[column].to_numpy()).cast(pl.Int64) for name, column in _COLUMNS.items()),
        window_id=pl.Series(table["window_id"].to_numpy()),
        shard=pl.lit(shard.index),
        row=pl.int_range(pl.len()),
        windows=pl.lit(1, pl.Int64),
        student_tokens=pl.Series(lengths[0]),
        teacher_tokens=pl.Series(lengths[1]),
        inexact_text_bytes=pl.Series(differing),
    ).filter((pl.col("student_tokens") > 0) & (pl.col("teacher_tokens") > 0))
    counts.sums.add(rows.select("teacher", *ORIGIN, *PAIR_SUMS))
    counts.worst = _worst(pl.concat([counts.worst, rows], how="diagonal"))


_COLUMNS = {"bytes": "n_bytes", "exact_bytes": "n_exact_bytes", "chunks": "n_chunks", "exact_chunks": "n_exact"}


def _worst(rows: pl.DataFrame) -> pl.DataFrame:
    inexact = pl.col("chunks") - pl.col("exact_chunks")
    order = [pl.col("inexact_text_bytes"), pl.col("bytes") - pl.col("exact_bytes"), inexact]
    found = rows.filter(inexact > 0).sort([-key for key in order], maintain_order=True).head(WORST)
    return found.select("teacher", "window_id", "shard", "row", *ORIGIN, *PAIR_SUMS[1:])
