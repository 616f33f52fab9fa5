"""Reading documents: parquet, Arrow, JSONL and text files, local or behind an fsspec URL, one document at a time."""

import hashlib
import io
import json
import logging
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from flows.config import CorpusConfig, RunConfig
from flows.errors import CorpusError
from storage.digests import file_digest
from storage.hashing import BLOCK_BYTES, fingerprint

logger = logging.getLogger(__name__)

_COMPRESSIONS = (".gz", ".zst", ".bz2", ".xz")
_UNREADABLE = (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError)
_DAMAGE = (pa.ArrowInvalid, UnicodeDecodeError, *_UNREADABLE)
_UNREACHABLE = (ImportError, ValueError, *_UNREADABLE)  # ImportError: fsspec names the package that a URL needs

# How filesystems name what changes with a file's bytes, the hashes of the content first.
_CHECKSUMS = ("md5Hash", "Content-MD5", "Digest", "blob_id", "sha", "hex", "CRC", "ETag", "etag")
_TIMES = ("Last-Modified", "LastModified", "last_modified", "mtime", "modify", "modificationTime")


@dataclass(frozen=True)
class Source:
    """One corpus file: where it is, its name without the folder, and a digest that changes with its bytes."""

    url: str
    name: str
    digest: str


def corpus_of(config: RunConfig) -> CorpusConfig:
    """The config's corpus (CorpusError if it has none)."""
    if config.corpus is None:
        raise CorpusError("the config has no `corpus`: name files, e.g. corpus: {files: [data/*.jsonl]}")
    return config.corpus


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
    try:
        filesystem, path = fsspec.core.url_to_fs(pattern)
        filesystem.invalidate_cache()  # a listing that this process remembers may be old
        return [_source(filesystem, match, pattern) for match in _matches(filesystem, path)]
    except _UNREACHABLE as error:
        raise CorpusError(
            f"corpus.files: cannot open {pattern}: {error}; check the path, and for a URL its protocol and that the "
            "server or container can be read"
        ) from error


def _matches(filesystem: Any, path: str) -> list[str]:
    if filesystem.isfile(path):  # also where the name holds [ or *
        return [path]
    return sorted(found for found in filesystem.glob(path) if filesystem.isfile(found))


def _source(filesystem: Any, path: str, pattern: str) -> Source:
    name = path.rsplit("/", 1)[-1]
    if isinstance(filesystem, fsspec.get_filesystem_class("file")):
        return Source(path, name, file_digest(Path(path)))
    url = filesystem.unstrip_protocol(path)
    if "::" in pattern:  # times within a container prove nothing: archivers may set them all to one
        return Source(_chained(pattern, url), name, _remote_digest(filesystem, path, _CHECKSUMS))
    return Source(url, name, _remote_digest(filesystem, path, _CHECKSUMS + _TIMES))


def _chained(pattern: str, url: str) -> str:
    """A chained pattern (`zip://*.jsonl::file:///x.zip`) with a match in place of the link that has the wildcards.

    That is the first link with a path; the caches before it (`simplecache::`) have none of their own.
    """
    links = pattern.split("::")
    place = next(index for index, link in enumerate(links) if not link.removesuffix("://").isalpha())
    return "::".join([*links[:place], url, *links[place + 1 :]])


def _remote_digest(filesystem: Any, path: str, stamps: tuple[str, ...]) -> str:
    """From the first of `stamps` that the filesystem knows of the file; where it knows none, from the bytes."""
    info = filesystem.info(path)
    for stamp in stamps:
        if info.get(stamp):
            return fingerprint([stamp, str(info[stamp]), info.get("size")])
    return _checksum(filesystem, path)


def _checksum(filesystem: Any, path: str) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with filesystem.open(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


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


@contextmanager
def _open(source: Source) -> Iterator[IO[bytes]]:
    """The bytes of a source, decompressed; the file system is held meanwhile: an archive closes with it."""
    zstd = source.name.lower().endswith(".zst")  # fsspec knows it only where the package zstandard is installed
    with fsspec.open(source.url, "rb", compression=None if zstd else "infer") as file:
        yield io.BufferedReader(pa.CompressedInputStream(file, "zstd")) if zstd else file


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
