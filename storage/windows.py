"""A windows artifact beside its rows: the ids that slices of documents have, and what the corpus was found to hold."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from storage.artifact import Artifact
from storage.errors import ArtifactError
from storage.hashing import hash64
from xtoken_core.occurrences import Occurrences

KIND = "windows"


class Reading(BaseModel):
    """What one file of the corpus gave.

    source: the name of the source in the config. is_chat: its documents are chats. shards: how many it filled.
    documents, bytes: of these. empty: rows without text. bad_rows: rows that are no document, by reason, of which
    `examples` names some.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    source: str
    is_chat: bool
    shards: int
    documents: int
    bytes: int
    empty: int = 0
    bad_rows: dict[str, int] = Field(default_factory=dict)
    examples: tuple[str, ...] = ()


def readings(windows: Artifact) -> list[Reading]:
    """One for each file of the corpus, in the order of their shards."""
    names = [entry.name for entry in windows.manifest.files if entry.name.startswith("reading-")]
    return [read_reading(windows.folder / name) for name in names]


def shard_readings(windows: Artifact) -> list[Reading]:
    """For each shard the reading of the file that it is from."""
    return [reading for reading in readings(windows) for _ in range(reading.shards)]


def read_reading(path: Path) -> Reading:
    """Read one (ArtifactError if it is none)."""
    try:
        return Reading.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}; run the command that made it again") from error


def window_id(doc_id: int, start: int, end: int, occurrence: int) -> int:
    """The id of bytes `start` to `end` of a document: it does not depend on what else is in the corpus.

    `occurrence` says how many copies of the document came before, so that copies have ids of their own.
    """
    return hash64(*(number.to_bytes(8, "little") for number in (doc_id, start, end, occurrence)))


def occurrences_agree(table: pa.Table, seen: Occurrences) -> bool:
    """Whether the shard's ids are those that its documents get now, after the documents that were `seen`.

    Shards of another corpus may number the copies of a document in another way. The documents of the shard are counted.
    """
    firsts = table.select(["window_id", "doc_id", "byte_end"]).filter(pc.equal(table["byte_start"], 0))
    documents, ends = firsts["doc_id"].to_numpy(), firsts["byte_end"].to_pylist()
    numbered = zip(documents.tolist(), ends, seen.number(documents).tolist(), strict=True)
    ids = [window_id(document, 0, end, number) for document, end, number in numbered]
    return np.array_equal(np.array(ids, dtype=np.uint64), firsts["window_id"].to_numpy())
