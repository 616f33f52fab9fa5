"""The parts of documents in all shards of a screening, put together as documents in the order of the corpus."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.columns import single_chunk
from storage.files import scratch
from storage.shards import Shards, column
from xtoken_core.text.minhash import BINS, densified


@dataclass(frozen=True, eq=False)
class Documents:
    """The documents of a corpus.

    rows: windows (int32 [n]). bytes: uint32. heldout, copies: bool; a copy is byte for byte an earlier document.
    signatures: uint8 [n, BINS], zeros for a document without words. They lie in a file, so that they take memory only
    as long as nothing else needs it.
    """

    rows: np.ndarray
    bytes: np.ndarray
    heldout: np.ndarray
    copies: np.ndarray
    signatures: np.ndarray

    @classmethod
    def of(cls, shards: Shards[pa.Table]) -> "Documents":
        """From the shards of a screening."""
        firsts = np.flatnonzero(_begins(shards))
        return cls(
            rows=np.add.reduceat(column(shards, "rows", np.int32), firsts),
            bytes=np.add.reduceat(column(shards, "bytes", np.uint32), firsts),
            heldout=shards.column(lambda shard: pc.equal(shard["split"], "heldout").to_numpy(), bool)[firsts],
            copies=_repeats(column(shards, "doc_id", np.uint64)[firsts]),
            signatures=_signatures(shards, len(firsts)),
        )

    def __len__(self) -> int:
        return len(self.rows)


def document_of_parts(shards: Shards[pa.Table]) -> np.ndarray:
    """Which document each part is of, int64 [parts of all shards]."""
    return np.cumsum(_begins(shards)) - 1


def _begins(shards: Shards[pa.Table]) -> np.ndarray:
    """Which parts are the first of their documents, bool [parts of all shards]."""
    return shards.column(lambda shard: pc.equal(shard["byte_start"], 0).to_numpy(), bool)


def _repeats(doc_ids: np.ndarray) -> np.ndarray:
    """Whether an id came before, bool [n]."""
    order = np.argsort(doc_ids, kind="stable")
    ordered = doc_ids[order]
    repeats = np.zeros(len(doc_ids), dtype=bool)
    repeats[order[1:]] = ordered[1:] == ordered[:-1]
    return repeats


def _signatures(shards: Shards[pa.Table], documents: int) -> np.ndarray:
    """The signature of a document is the smallest of its parts', of which only the last of a shard can go on."""
    found = np.frombuffer(scratch(shards.folder, documents * BINS), np.uint8).reshape(documents, BINS)
    end, last = 0, np.empty((0, BINS), np.uint32)
    for shard in shards:
        parts = single_chunk(shard["signature"]).flatten().to_numpy().reshape(-1, BINS)
        if shard["byte_start"][0].as_py() > 0:
            parts = np.concatenate([np.minimum(last, parts[:1]), parts[1:]])
            end -= 1
        found[end : end + len(parts)] = densified(parts)
        end, last = end + len(parts), parts[-1:]
    return found
