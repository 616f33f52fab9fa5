"""One file of the corpus, and its bytes: local or behind an fsspec URL, decompressed."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
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
    """A file or dataset of a source.

    url: where it is. name: what it is called among the files of its source, its path below what they have in common.
    digest: changes with its bytes. size: bytes as stored, None for a dataset and where nobody knows.
    """

    url: str
    name: str
    digest: str
    source: SourceConfig
    size: int | None = None

    @cached_property
    def key(self) -> str:
        """The hash of all that determines the documents of a file, of its name without folders, and of its source's.

        Without folders, as files elsewhere decide how many of them the name has.
        """
        source, name = self.source, self.name.rsplit("/", 1)[-1]
        return fingerprint([self.digest, name, source.name, source.column, source.messages_column is not None])


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
