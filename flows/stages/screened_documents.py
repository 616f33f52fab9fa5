"""The parts of documents in all shards of a screening, put together as documents in the order of the corpus."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from storage.columns import single_chunk
from xtoken_core.text.minhash import BINS, densified


@dataclass(frozen=True, eq=False)
class Documents:
    """The documents of a corpus; twenty millions take some 2 GB, signatures and search included.

    rows: windows (int32 [n]). bytes: uint32. heldout, copies: bool; a copy is byte for byte an earlier document.
    signatures: uint8 [n, BINS], zeros for a document without words.
    """

    rows: np.ndarray
    bytes: np.ndarray
    heldout: np.ndarray
    copies: np.ndarray
    signatures: np.ndarray

    @classmethod
    def of(cls, shards: Sequence[pa.Table]) -> "Documents":
        """From the shards of a screening."""
        begins = _column(shards, "byte_start") == 0
        firsts = np.flatnonzero(begins)
        return cls(
            rows=np.add.reduceat(_column(shards, "rows"), firsts).astype(np.int32),
            bytes=np.add.reduceat(_column(shards, "bytes"), firsts).astype(np.uint32),
            heldout=np.concatenate([_are_heldout(shard) for shard in shards])[firsts],
            copies=_repeats(_column(shards, "doc_id")[firsts]),
            signatures=_signatures(shards, len(firsts)),
        )

    def __len__(self) -> int:
        return len(self.rows)


def document_of_parts(shards: Sequence[pa.Table]) -> np.ndarray:
    """Which document each part is of, int64 [parts of all shards]."""
    return np.cumsum(_column(shards, "byte_start") == 0) - 1


def _column(shards: Sequence[pa.Table], name: str) -> np.ndarray:
    return np.concatenate([shard[name].to_numpy() for shard in shards])


def _are_heldout(shard: pa.Table) -> np.ndarray:
    return shard["split"].to_numpy() == "heldout"


def _repeats(doc_ids: np.ndarray) -> np.ndarray:
    """Whether an id came before, bool [n]."""
    repeats = np.ones(len(doc_ids), dtype=bool)
    repeats[np.unique(doc_ids, return_index=True)[1]] = False
    return repeats


def _signatures(shards: Sequence[pa.Table], documents: int) -> np.ndarray:
    """The signature of a document is the smallest of its parts', of which only the last of a shard can go on."""
    found = np.zeros((documents, BINS), dtype=np.uint8)
    end, last = 0, np.empty((0, BINS), np.uint32)
    for shard in shards:
        parts = single_chunk(shard["signature"]).flatten().to_numpy().reshape(-1, BINS)
        if shard["byte_start"][0].as_py() > 0:
            parts = np.concatenate([np.minimum(last, parts[:1]), parts[1:]])
            end -= 1
        found[end : end + len(parts)] = densified(parts)
        end, last = end + len(parts), parts[-1:]
    return found
