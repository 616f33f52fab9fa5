"""Which reader a file needs, by the ending of its name."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from flows.corpus.files import Row, SourceFile, open_bytes, stem_of
from flows.corpus.hub import dataset_columns, read_dataset
from flows.corpus.jsonl import jsonl_columns, read_jsonl
from flows.corpus.tables import arrow_columns, parquet_columns, read_arrow, read_parquet


@dataclass(frozen=True)
class Format:
    """How to read a file: `read` gives each value with its number, which counts what `place` says.

    columns: their names in a file, as far as its begin tells; none where the format has no columns.
    """

    read: Callable[[SourceFile], Iterator[Row]]
    columns: Callable[[SourceFile], list[str]]
    place: str = "row"


def read_text(file: SourceFile) -> Iterator[Row]:
    """A file is one document."""
    with open_bytes(file) as stream:
        yield 0, stream.read()


_DATASET = Format(read_dataset, dataset_columns)
_FORMATS = {
    (".jsonl", ".ndjson"): Format(read_jsonl, jsonl_columns, "line"),
    (".parquet",): Format(read_parquet, parquet_columns),
    (".arrow", ".feather"): Format(read_arrow, arrow_columns),
    (".txt", ".md"): Format(read_text, lambda _file: []),
}


def known_format(name: str) -> Format | None:
    """The format of files with this name."""
    stem = stem_of(name)
    return next((known for endings, known in _FORMATS.items() if stem.endswith(endings)), None)


def format_of(file: SourceFile) -> Format:
    """The format of a file or dataset that `find_sources` found."""
    known = _DATASET if file.source.dataset is not None else known_format(file.name)
    assert known is not None
    return known


def known_endings() -> str:
    """The endings of all formats, for messages."""
    return ", ".join(ending for endings in _FORMATS for ending in endings)
