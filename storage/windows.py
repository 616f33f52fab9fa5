"""A windows artifact beside its rows: the ids that slices of documents have, and what the corpus was found to hold."""

from collections.abc import Iterable
from dataclasses import dataclass
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

    source: the name of the source in the config. is_chat: its documents are chats. windows, documents, bytes: how many,
    bytes of the documents. empty: rows without text. bad_rows: rows that are no document, by reason, of which
    `examples` names some.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    source: str
    is_chat: bool
    windows: int
    documents: int
    bytes: int
    empty: int = 0
    bad_rows: dict[str, int] = Field(default_factory=dict)
    examples: tuple[str, ...] = ()


class GroupReading(BaseModel):
    """What the files of a group gave, in order. shards: how many they filled together; all files are of one source."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shards: int
    files: tuple[Reading, ...]

    def named(self, names: Iterable[str]) -> "GroupReading":
        """The same with these names of the files."""
        renamed = (reading.model_copy(update={"file": name}) for reading, name in zip(self.files, names, strict=True))
        return self.model_copy(update={"files": tuple(renamed)})


@dataclass(frozen=True, eq=False)
class FileRows:
    """Which file each row is from: those of a file follow each other, over all shards.

    readings: of all files, also of those without a row. ends, shard_starts: the row behind each file, and the first of
    each shard, counted over all shards (int64).
    """

    readings: list[Reading]
    ends: np.ndarray
    shard_starts: np.ndarray

    @classmethod
    def of(cls, windows: Artifact) -> "FileRows":
        """From the readings."""
        found = readings(windows)
        ends = np.cumsum([reading.windows for reading in found])
        return cls(found, ends, np.cumsum([0, *(shard.rows for shard in windows.manifest.shards)]))

    def at(self, row: int) -> Reading:
        """Of the file that a row is from, counted over all shards."""
        return self.readings[int(np.searchsorted(self.ends, row, side="right"))]

    def first_in(self, shard: int) -> Reading:
        """Of the file that a shard begins with; the others in it are of the same source."""
        return self.at(int(self.shard_starts[shard]))

    def names(self, shard: int) -> list[str]:
        """The file of each row of a shard."""
        rows = np.arange(*self.shard_starts[shard : shard + 2])
        return [self.readings[file].file for file in np.searchsorted(self.ends, rows, side="right").tolist()]


def readings(windows: Artifact) -> list[Reading]:
    """One for each file of the corpus, in order."""
    names = [entry.name for entry in windows.manifest.files if entry.name.startswith("reading-")]
    return [reading for name in names for reading in read_group_reading(windows.folder / name).files]


def read_group_reading(path: Path) -> GroupReading:
    """Read one (ArtifactError if it is none)."""
    try:
        return GroupReading.model_validate_json(path.read_bytes())
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
