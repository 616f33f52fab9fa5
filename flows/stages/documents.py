"""Documents -> tables of windows, many documents at a time: no window costs a Python object for each of its columns."""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from flows.config import RunConfig
from flows.corpus import Document, corpus_of
from flows.corpus_config import SourceConfig
from flows.errors import CorpusError
from storage.hashing import hash64
from storage.schemas import WINDOWS
from storage.windows import window_id
from xtoken_core.occurrences import Occurrences
from xtoken_core.ragged import Ragged, offsets_of
from xtoken_core.text.windows import window_ends

_BATCH_BYTES = 8 << 20
_LONGEST = 1 << 30  # with a batch before it still below the 2^31 bytes of an Arrow string column


@dataclass
class Cut:
    """What was cut of one file so far: documents, their windows and their bytes."""

    documents: int = 0
    windows: int = 0
    bytes: int = 0


class Cutter:
    """Cuts the documents of one source into windows; a chat is one window.

    files: what was cut of each so far. seen: the documents of the corpus so far.
    """

    def __init__(self, config: RunConfig, source: SourceConfig, seen: Occurrences) -> None:
        self.source = source
        self.max_bytes = config.windows.max_bytes
        self.first_trained = math.ceil(corpus_of(config).holdout * 2**64)
        self.seen = seen
        self.files: list[Cut] = []

    def tables(self, files: Iterable[Iterable[Document]]) -> Iterator[pa.Table]:
        """The windows of some documents at a time, in order; `files` are the documents of one file after another.

        Raises:
            CorpusError: if a document is too large to be handled as one.
        """
        batch: list[tuple[bytes, list[int]]] = []
        pending = 0
        for document in self._documents(files):
            batch.append((document, self._ends(document)))
            self._count(*batch[-1])
            pending += len(document)
            if pending >= _BATCH_BYTES:
                yield self._table(batch)
                batch, pending = [], 0
        if batch:
            yield self._table(batch)

    def _documents(self, files: Iterable[Iterable[Document]]) -> Iterator[bytes]:
        for documents in files:
            self.files.append(Cut())
            yield from map(_as_bytes, documents)

    def _count(self, document: bytes, ends: list[int]) -> None:
        self.files[-1].documents += 1
        self.files[-1].windows += len(ends)
        self.files[-1].bytes += len(document)

    def _table(self, batch: list[tuple[bytes, list[int]]]) -> pa.Table:
        documents = [document for document, _ in batch]
        ends = Ragged.from_lists([ends for _, ends in batch], np.int64)
        which = np.repeat(np.arange(len(documents)), ends.lengths)
        starts = np.concatenate([[0], ends.values[:-1]])
        starts[ends.offsets[:-1]] = 0
        doc_ids = np.array([hash64(document) for document in documents], dtype=np.uint64)
        numbers = self.seen.number(doc_ids)
        places = zip(*(part.tolist() for part in (doc_ids[which], starts, ends.values, numbers[which])), strict=True)
        content = _strings(documents, ends, which)
        nothing = pa.nulls(len(which), pa.string())
        columns = [
            np.array([window_id(*place) for place in places], dtype=np.uint64),
            doc_ids[which],
            _repeated(self.source.name, len(which)),
            self._splits(doc_ids[which]),
            starts,
            ends.values,
            *((nothing, content) if self.source.messages_column else (content, nothing)),
        ]
        return pa.table(columns, schema=WINDOWS)

    def _ends(self, document: bytes) -> list[int]:
        if len(document) > _LONGEST:
            raise CorpusError(
                f"a document of {len(document):,} bytes in the source {self.source.name}: at most {_LONGEST:,} fit; "
                "split it up"
            )
        return [len(document)] if self.source.messages_column else window_ends(document, self.max_bytes)

    def _splits(self, doc_ids: np.ndarray) -> pa.Array:
        heldout = doc_ids < np.uint64(self.first_trained)
        return pa.DictionaryArray.from_arrays(heldout.astype(np.int8), ["train", "heldout"]).cast(pa.string())


def shards_of(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The rows of `tables` in shards of `rows`; the last may have fewer."""
    pending: list[pa.Table] = []
    for table in tables:
        pending.append(table)
        while sum(part.num_rows for part in pending) >= rows:
            whole = pa.concat_tables(pending)
            yield whole.slice(0, rows)
            pending = [whole.slice(rows)]
    rest = pa.concat_tables(pending) if pending else None
    if rest is not None and rest.num_rows:
        yield rest


def _as_bytes(document: Document) -> bytes:
    if document.text is not None:
        return document.text.encode()
    return json.dumps(document.messages, ensure_ascii=False, separators=(",", ":")).encode()


def _strings(documents: list[bytes], ends: Ragged, which: np.ndarray) -> pa.Array:
    """The slices as strings, which lie one after another in the documents' bytes."""
    bases = offsets_of([len(document) for document in documents])
    offsets = np.concatenate([[0], bases[which] + ends.values]).astype(np.int32)
    return pa.StringArray.from_buffers(len(which), pa.py_buffer(offsets), pa.py_buffer(b"".join(documents)))


def _repeated(value: str, rows: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(np.zeros(rows, dtype=np.int8), [value]).cast(pa.string())
