"""The student's side of the data: windows joined with their token ids.

Shards are mapped, not loaded: opening a corpus reads the columns `window_id` and `split` and the row lengths, and a
batch copies just its own rows.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.artifact import Artifact, open_artifact
from storage.columns import from_list_column
from storage.errors import ArtifactError
from xtoken_core.ragged import Ragged

WINDOWS_KIND = "windows"
TOKENS_KIND = "tokens"
TRAIN = "train"  # any other split is held out


@dataclass(frozen=True, eq=False)
class WindowSet:
    """Some windows: where their rows are, in every artifact that keeps the window order."""

    shards: np.ndarray  # int32 [n]
    rows: np.ndarray  # int32 [n], within the shard
    window_ids: np.ndarray  # uint64 [n]
    lengths: np.ndarray  # int32 [n], in student tokens
    sources: np.ndarray  # int32 [n], which of `StudentWindows.source_names`

    def __len__(self) -> int:
        return len(self.window_ids)

    def take(self, which: np.ndarray | slice) -> "WindowSet":
        """The windows at the indices, in the slice or where the mask `which`."""
        return WindowSet(
            self.shards[which], self.rows[which], self.window_ids[which], self.lengths[which], self.sources[which]
        )

    def by_length(self) -> "WindowSet":
        """The same windows, longest first (ties by window id), so that rows padded together differ little."""
        return self.take(np.lexsort((self.window_ids, -self.lengths)))


@dataclass(frozen=True, eq=False)
class StudentWindows:
    """All windows of a corpus with the student's ids."""

    windows_folder: Path
    tokens_folder: Path
    tables: tuple[pa.Table, ...]  # of the tokens artifact
    everything: WindowSet
    is_train: np.ndarray  # bool [windows]
    source_names: tuple[str, ...]

    @classmethod
    def open(cls, windows_folder: Path, tokens_folder: Path) -> "StudentWindows":
        """Open both artifacts, checked.

        Raises:
            ArtifactError: if one is missing or damaged, or they hold different windows.
        """
        windows = open_artifact(windows_folder, WINDOWS_KIND)
        tables = _tables(open_artifact(tokens_folder, TOKENS_KIND))
        window_tables = _tables(windows)
        require_same_windows(tables, tokens_folder, window_tables, windows_folder)
        is_train = [pc.equal(table["split"], TRAIN).to_numpy() for table in window_tables]
        names, sources = _sources(window_tables)
        everything = _places(tables, sources)
        return cls(windows_folder, tokens_folder, tables, everything, np.concatenate([*is_train, _NO_FLAGS]), names)

    def train(self, max_length: int) -> WindowSet:
        """Windows of training documents with at least one predicted token that fit the student."""
        lengths = self.everything.lengths
        return self.everything.take(self.is_train & (lengths >= 2) & (lengths <= max_length))

    def heldout(self, max_length: int) -> tuple[WindowSet, int]:
        """Held-out windows with something to predict that fit the student, and how many are too long for it."""
        heldout = self.everything.take(~self.is_train)
        too_long = heldout.lengths > max_length
        return heldout.take(~too_long & (heldout.lengths >= 2)), int(too_long.sum())

    def largest_id(self) -> int:
        """The largest token id of any window; reads all ids."""
        largest = [pc.max(pc.list_flatten(table["ids"])).as_py() for table in self.tables]
        return max((token_id for token_id in largest if token_id is not None), default=0)

    def tokens(self, windows: WindowSet) -> tuple[Ragged, Ragged]:
        """The ids (int32) and the loss mask (bool) of `windows`, in their order."""
        table = rows_of(self.tables, windows)
        return from_list_column(table["ids"]), from_list_column(table["loss_mask"])


_NO_FLAGS = np.empty(0, dtype=bool)


def _tables(artifact: Artifact) -> tuple[pa.Table, ...]:
    return tuple(artifact.table(i) for i in range(len(artifact)))


def _column(table: pa.Table, name: str) -> np.ndarray:
    return table[name].to_numpy()


def require_same_windows(tables: tuple[pa.Table, ...], folder: Path, others: tuple[pa.Table, ...], other: Path) -> None:
    """ArtifactError unless both artifacts have the same windows in the same shards and order."""
    same = len(tables) == len(others) and all(
        np.array_equal(_column(a, "window_id"), _column(b, "window_id")) for a, b in zip(tables, others, strict=True)
    )
    if not same:
        raise ArtifactError(
            f"{folder} and {other} hold different windows: they belong to different corpora or window settings; run "
            "`xtoken prepare` with one config and give the folders that it names"
        )


def _sources(tables: tuple[pa.Table, ...]) -> tuple[tuple[str, ...], np.ndarray]:
    """The names of all sources, and which of them each window is of, int32 [windows]."""
    chunks = [chunk for table in tables for chunk in table["source"].chunks]
    column = pa.chunked_array(chunks, pa.string()).dictionary_encode().unify_dictionaries()
    codes = [chunk.indices.to_numpy() for chunk in column.chunks]
    names = column.chunk(0).dictionary.to_pylist() if codes else []
    return tuple(names), np.concatenate([*codes, np.empty(0, dtype=np.int32)])


def _places(tables: tuple[pa.Table, ...], sources: np.ndarray) -> WindowSet:
    counts = [table.num_rows for table in tables]
    lengths = [from_list_column(table["ids"]).lengths for table in tables]
    ids = [_column(table, "window_id") for table in tables]
    return WindowSet(
        shards=np.repeat(np.arange(len(tables), dtype=np.int32), counts),
        rows=np.concatenate([np.arange(count, dtype=np.int32) for count in [*counts, 0]]),
        window_ids=np.concatenate([*ids, np.empty(0, dtype=np.uint64)]),
        lengths=np.concatenate([*lengths, np.empty(0, dtype=np.int64)]).astype(np.int32),
        sources=sources,
    )


def rows_of(tables: tuple[pa.Table, ...], windows: WindowSet) -> pa.Table:
    """The rows of `windows` (at least one), copied into one small contiguous table."""
    places = zip(windows.shards.tolist(), windows.rows.tolist(), strict=True)
    return pa.concat_tables([tables[shard].slice(row, 1) for shard, row in places]).combine_chunks()
