"""One file of the corpus, and its bytes: local or behind an fsspec URL, decompressed."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import fsspec
import pyarrow as pa

from flows.corpus_config import SourceConfig
from storage.hashing import fingerprint

COMPRESSIONS = (".gz", ".zst", ".bz2", ".xz")
BUFFER_BYTES = 1 << 20

Row = tuple[int, Any]  # what readers yield: a number, and the value of the column or a Bad


@dataclass(frozen=True)
class SourceFile:
    """A file or dataset of a source: where it is, its name without the folder, a digest that changes with its bytes."""

    url: str
    name: str
    digest: str
    source: SourceConfig

    @property
    def key(self) -> str:
        """The hash of all that determines the documents of a file, and of the name of its source."""
        source = self.source
        return fingerprint([self.digest, self.name, source.name, source.column, source.messages_column is not None])


def stem_of(name: str) -> str:
    """A file's name in lower case without the ending of a compression."""
    stem = name.lower()
    for suffix in COMPRESSIONS:
        stem = stem.removesuffix(suffix)
    return stem


@contextmanager
def open_bytes(file: SourceFile) -> Iterator[IO[bytes]]:
    """The bytes of a file, decompressed; the file system is held meanwhile: an archive closes with it."""
    zstd = file.name.lower().endswith(".zst")  # fsspec knows it only where the package zstandard is installed
    with fsspec.open(file.url, "rb", compression=None if zstd else "infer") as opened:
        yield _zstd(opened) if zstd else opened


@contextmanager
def open_arrow(file: SourceFile) -> Iterator[Any]:
    """The bytes of an Arrow file; a local one is mapped, so that only the column that is read takes memory."""
    if "://" in file.url or stem_of(file.name) != file.name.lower():
        with open_bytes(file) as opened:
            yield pa.PythonFile(opened)
    else:
        with pa.memory_map(file.url) as mapped:
            yield mapped


def _zstd(opened: IO[bytes]) -> Any:
    return io.BufferedReader(pa.CompressedInputStream(opened, "zstd"), BUFFER_BYTES)
