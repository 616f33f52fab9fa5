"""A shard of windows -> the parts of documents that it holds, as texts."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from storage.artifact import Artifact
from storage.columns import from_string_column
from xtoken_core.ragged import Ragged, offsets_of

# A document's part goes on so far into the next shard, so that no run of words is lost where shards meet.
_BYTES_BEYOND = 1024


@dataclass(frozen=True, eq=False)
class DocumentParts:
    """Part i begins in row `first_rows[i]` (int64); `texts` are UTF-8, the last with the begin of what follows it."""

    texts: Ragged
    first_rows: np.ndarray


def document_parts(windows: Artifact, index: int) -> DocumentParts:
    """The documents in shard `index`; the first part may go on with one, the last may not be its end."""
    table = windows.table(index)
    firsts = np.flatnonzero(table["byte_start"].to_numpy() == 0)
    firsts = firsts if len(firsts) and firsts[0] == 0 else np.append(0, firsts)
    texts = _texts(table)
    parts = Ragged(texts.values, texts.offsets[np.append(firsts, len(texts))])
    return DocumentParts(_with(parts, _beyond(windows, index)), firsts)


def goes_on(windows: Artifact, index: int) -> bool:
    """Whether the last document of shard `index` has more windows in the next shard."""
    return index + 1 < len(windows) and windows.table(index + 1)["byte_start"][0].as_py() > 0


def said(messages: Iterable[Mapping[str, Any]]) -> str:
    """What the messages of a chat say, a line or more each."""
    return "\n".join(message["content"] or "" for message in messages)


def ragged_texts(texts: Iterable[str]) -> Ragged:
    """Texts as UTF-8 (uint8)."""
    encoded = [text.encode() for text in texts]
    return Ragged(np.frombuffer(b"".join(encoded), np.uint8), offsets_of([len(text) for text in encoded]))


def _texts(table: pa.Table) -> Ragged:
    """The text of each row; of a chat what its messages say, a line each."""
    if table["messages"].null_count == table.num_rows:
        return from_string_column(table["text"])
    return ragged_texts([said(json.loads(chat)) for chat in table["messages"].to_pylist()])


def _beyond(windows: Artifact, index: int) -> np.ndarray:
    """How the last document goes on in the next shard: whole windows, up to the one that makes it enough."""
    if not goes_on(windows, index):
        return np.empty(0, np.uint8)
    table = windows.table(index + 1)
    ends = np.append(np.flatnonzero(table["byte_start"].to_numpy() == 0), table.num_rows)
    texts = from_string_column(table["text"].slice(0, ends[0]))
    enough = min(int(np.searchsorted(texts.offsets, texts.offsets[0] + _BYTES_BEYOND)), len(texts))
    return texts.values[texts.offsets[0] : texts.offsets[enough]]


def _with(texts: Ragged, beyond: np.ndarray) -> Ragged:
    if not len(beyond):
        return texts
    held = texts.values[texts.offsets[0] : texts.offsets[-1]]
    offsets = texts.offsets - texts.offsets[0]
    offsets[-1] += len(beyond)
    return Ragged(np.concatenate([held, beyond]), offsets)
