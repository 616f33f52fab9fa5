"""What the screening of a corpus found: nearly equal documents, passages of evaluation sets, and what is left out."""

from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from storage.artifact import Artifact, read_table
from storage.errors import ArtifactError

KIND = "screenings"
DROPPED_NAME = "dropped.arrow"
FINDINGS_NAME = "screening.json"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Count(_Record):
    """Documents, with the bytes of their text."""

    documents: int
    bytes: int


class Overlap(_Record):
    """Documents that share a passage with one evaluation set. too_short: texts of the set that are not looked for."""

    evaluation_set: str
    train: Count
    heldout: Count
    too_short: int


class Excerpt(_Record):
    """A document around the first place where it differs from another: from `character` on it goes on as `other`."""

    file: str
    character: int
    same: str
    other: str


class NearDuplicate(_Record):
    """A document and the one that it is nearly the same as, and the similarity that was estimated."""

    kept: Excerpt
    document: Excerpt
    similarity: float


class SharedPassage(_Record):
    """A passage of an evaluation set in a document of the corpus."""

    evaluation_set: str
    document: int
    passage: str


class Findings(_Record):
    """All of `screening.json`.

    copies: documents that are byte for byte an earlier one. near_duplicates: others that are nearly the same as an
    earlier one that stays, in so many `clusters`; `leaks` of them are for training while that one is held out.
    """

    corpus: Count
    copies: Count
    near_duplicates: Count
    clusters: int
    leaks: int
    overlaps: tuple[Overlap, ...]
    dropped: Count
    dropped_windows: int
    duplicate_examples: tuple[NearDuplicate, ...]
    overlap_examples: tuple[SharedPassage, ...]

    @property
    def duplicate_share(self) -> float:
        """Bytes of copies and near-duplicates in those of the corpus."""
        return (self.copies.bytes + self.near_duplicates.bytes) / max(self.corpus.bytes, 1)


def read_findings(screening: Artifact) -> Findings:
    """Read `screening.json` (ArtifactError if it is none)."""
    path: Path = screening.path(FINDINGS_NAME)
    try:
        return Findings.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}; run the command that made it again") from error


def dropped_windows(screening: Artifact) -> np.ndarray:
    """The ids (uint64, sorted) of the windows that no model reads."""
    return read_table(screening.path(DROPPED_NAME))["window_id"].to_numpy()


def dropped_rows(windows: Artifact, screening: Artifact | None) -> list[np.ndarray]:
    """For each shard of the windows which of its rows no model reads, bool [rows]."""
    dropped = np.empty(0, dtype=np.uint64) if screening is None else dropped_windows(screening)
    if not len(dropped):
        return [np.zeros(shard.rows, dtype=bool) for shard in windows.manifest.shards]
    tables = (windows.table(index) for index in range(len(windows)))
    return [_are_in(table["window_id"].to_numpy(), dropped) for table in tables]


def _are_in(ids: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which ids are among the `known`, which are sorted: `np.isin` would sort them again for every shard."""
    places = np.searchsorted(known, ids)
    return known[np.minimum(places, len(known) - 1)] == ids
