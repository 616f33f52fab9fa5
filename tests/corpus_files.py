"""Corpus files of every format, written to memory, and reading them back."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flows.corpus import BadRows, Document, SourceFile, find_sources, read_documents
from flows.corpus_config import CorpusConfig

TEXTS = [f"document {i} of a corpus, 中文 – ünï\n" * (1 + i % 3) for i in range(2500)]


def as_jsonl(rows: list[Any], column: str = "text") -> bytes:
    return "".join(json.dumps({column: row, "other": 1}) + "\n" for row in rows).encode()


def table_of(rows: Any, column: str = "text") -> pa.Table:
    return pa.table({"other": [1] * len(rows), column: rows})


def as_parquet(rows: Any, column: str = "text") -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table_of(rows, column), sink, row_group_size=700)
    return sink.getvalue().to_pybytes()


def as_arrow(rows: Any, column: str = "text") -> bytes:
    return _as_ipc(pa.ipc.new_file, table_of(rows, column))


def as_arrow_stream(rows: Any, column: str = "text") -> bytes:
    return _as_ipc(pa.ipc.new_stream, table_of(rows, column))


def _as_ipc(new: Callable[..., Any], table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with new(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=700)
    return sink.getvalue().to_pybytes()


def as_zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as writer:
        writer.write(data)
    return sink.getvalue().to_pybytes()


COMPRESS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": as_zstd}

# Every format that holds many documents: the name of a file, and what writes one.
TABLES = {
    "a.parquet": as_parquet,
    "a.arrow": as_arrow,
    "a.feather": as_arrow,
    "cache.arrow": as_arrow_stream,
}
FORMATS = {"a.jsonl": as_jsonl, "a.ndjson": as_jsonl, "A.JSONL": as_jsonl, **TABLES}


def sources(*patterns: object, **keys: Any) -> list[SourceFile]:
    return find_sources(CorpusConfig(files=tuple(map(str, patterns)), **keys))


def texts(file: SourceFile) -> list[str]:
    """The documents of a file of texts without any bad row."""
    rows = BadRows(fatal=True)
    found = [document.text for document in read_documents(file, rows)]
    return [text for text in found if text is not None]


class Folder:
    """Writes bytes under a name and reads the documents in them; `rows` are the last file's bad ones."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = BadRows()

    def documents(self, name: str, data: bytes, fatal: bool = False, **keys: Any) -> list[Document]:
        (self.path / name).write_bytes(data)
        (file,) = sources(self.path / name, **keys)
        self.rows = BadRows(fatal=fatal)
        return list(read_documents(file, self.rows))

    def texts(self, name: str, data: bytes, **keys: Any) -> list[str | None]:
        return [document.text for document in self.documents(name, data, **keys)]
