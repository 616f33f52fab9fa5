"""Reading documents: parquet, Arrow, JSONL and text files, local or behind an fsspec URL, one document at a time."""

import io
import json
import logging
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from flows.config import CorpusConfig
from flows.errors import CorpusError
from storage.digests import file_digest
from storage.hashing import fingerprint

logger = logging.getLogger(__name__)

_COMPRESSIONS = (".gz", ".zst", ".bz2", ".xz")
_DAMAGE = (pa.ArrowInvalid, UnicodeDecodeError, EOFError, OSError, zlib.error, lzma.LZMAError)


@dataclass(frozen=True)
class Source:
    """One corpus file: where it is, its name without the folder, and a digest of its bytes."""

    url: str
    name: str
    digest: str


def find_sources(config: CorpusConfig) -> list[Source]:
    """The files that the patterns name, each pattern's in sorted order.

    Raises:
        CorpusError: if a pattern matches nothing or a file's format is unknown.
    """
    sources: dict[str, Source] = {}
    for pattern in config.files:
        matches = _expand(pattern)
        if not matches:
            raise CorpusError(
                f"corpus.files: {pattern} matches no file; check the path (it is relative to {Path.cwd()})"
            )
        for source in matches:
            _reader(source)
            sources.setdefault(source.url, source)
    return list(sources.values())


def _expand(pattern: str) -> list[Source]:
    filesystem, path = fsspec.core.url_to_fs(pattern)
    if filesystem.isfile(path):  # also where the name holds [ or *
        return [_source(filesystem, path)]
    found = sorted(path for path in filesystem.glob(path) if filesystem.isfile(path))
    return [_source(filesystem, path) for path in found]


def _source(filesystem: Any, path: str) -> Source:
    name = path.rsplit("/", 1)[-1]
    if isinstance(filesystem, fsspec.get_filesystem_class("file")):
        return Source(path, name, file_digest(Path(path)))
    return Source(filesystem.unstrip_protocol(path), name, fingerprint(str(filesystem.ukey(path))))


def read_documents(source: Source, text_column: str) -> Iterator[str]:
    """The documents of a file in order; rows that hold no usable text are skipped, counted and logged.

    Raises:
        CorpusError: if the file is not of the format that its name says, or lacks the column.
    """
    skipped: list[str] = []
    try:
        for number, value in enumerate(_reader(source)(source, text_column)):
            problem = _problem(value)
            if problem:
                skipped.append(f"row {number} {problem}")
            elif value:
                yield value
    except _DAMAGE as error:
        raise CorpusError(
            f"cannot read {source.url}: {error}; repair the file or leave it out of corpus.files"
        ) from error
    if skipped:
        logger.warning(
            "%s: skipped %d row(s) without usable text: %s", source.name, len(skipped), "; ".join(skipped[:3])
        )


def _problem(value: Any) -> str | None:
    if not isinstance(value, str):
        return f"is {type(value).__name__}, not a string"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "has a lone surrogate"
    return None


def _reader(source: Source) -> Any:
    stem = source.name.lower()
    for suffix in _COMPRESSIONS:
        stem = stem.removesuffix(suffix)
    for endings, reader in _READERS.items():
        if stem.endswith(endings):
            return reader
    known = ", ".join(ending for endings in _READERS for ending in endings)
    raise CorpusError(f"{source.url}: unknown format; corpus files end in {known} (text formats may be compressed)")


def _open(source: Source) -> IO[bytes]:
    if source.name.lower().endswith(".zst"):  # fsspec knows it only where the package zstandard is installed
        compressed = fsspec.open(source.url, "rb").open()
        return io.BufferedReader(pa.CompressedInputStream(compressed, "zstd"))
    return fsspec.open(source.url, "rb", compression="infer").open()


def _read_jsonl(source: Source, column: str) -> Iterator[Any]:
    with _open(source) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                row = _parse(source, number, line)
                _require(source, column, row if isinstance(row, dict) else ())
                yield row[column]


def _parse(source: Source, number: int, line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:  # ValueError: not JSON, or not UTF-8
        reason = getattr(error, "msg", error)  # the rest of json's message counts lines within the line
        raise CorpusError(
            f"{source.url}: line {number} is not JSON ({reason}); repair the line or leave the file out of corpus.files"
        ) from error


def _read_text(source: Source, _column: str) -> Iterator[Any]:
    with _open(source) as file:
        yield file.read().decode()


def _read_parquet(source: Source, column: str) -> Iterator[Any]:
    with _open(source) as file:
        table = pq.ParquetFile(file)
        _require(source, column, table.schema_arrow.names)
        for batch in table.iter_batches(batch_size=1024, columns=[column]):
            yield from batch.column(0).to_pylist()


def _read_arrow(source: Source, column: str) -> Iterator[Any]:
    with _open(source) as file:
        table = pa.ipc.open_file(file)
        _require(source, column, table.schema.names)
        for index in range(table.num_record_batches):
            yield from table.get_batch(index).column(column).to_pylist()


def _require(source: Source, column: str, names: Any) -> None:
    if column not in names:
        raise CorpusError(f"{source.url} has no column {column!r}, only {sorted(names)}: set corpus.text_column")


_READERS = {
    (".jsonl", ".ndjson"): _read_jsonl,
    (".parquet",): _read_parquet,
    (".arrow", ".feather"): _read_arrow,
    (".txt", ".md"): _read_text,
}
