"""The student's side of the data: windows joined with their token ids.

Shards are mapped, not loaded: opening a corpus reads the columns `window_id`, `split` and `source` and the row lengths,
24 bytes a window, and a batch copies just its own rows.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.artifact import open_artifact
from storage.columns import from_list_column, single_chunk
from storage.errors import ArtifactError
from storage.shards import Shards, column, tables_of
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
    tables: Shards[pa.Table]  # of the tokens artifact
    everything: WindowSet
    is_train: np.ndarray  # bool [windows]
    source_names: tuple[str, ...]

    @classmethod
    def open(cls, windows_folder: Path, tokens_folder: Path) -> "StudentWindows":
        """Open both artifacts, checked.

        Raises:
            ArtifactError: if one is missing or damaged, or they hold different windows.
        """
        windows = tables_of(open_artifact(windows_folder, WINDOWS_KIND))
        tables = tables_of(open_artifact(tokens_folder, TOKENS_KIND))
        require_same_windows(tables, windows)
        is_train = windows.column(lambda table: pc.equal(table["split"], TRAIN).to_numpy(), bool)
        names, sources = _sources(windows)
        return cls(windows_folder, tokens_folder, tables, _places(tables, sources), is_train, names)

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


def require_same_windows(tables: Shards[pa.Table], others: Shards[pa.Table]) -> None:
    """ArtifactError unless both artifacts have the same windows in the same shards and order."""
    same = tables.rows == others.rows and all(
        a["window_id"].equals(b["window_id"]) for a, b in zip(tables, others, strict=True)
    )
    if not same:
        raise ArtifactError(
            f"{tables.folder} and {others.folder} hold different windows: they belong to different corpora or window "
            "settings; run `xtoken prepare` with one config and give the folders that it names"
        )


def _sources(windows: Shards[pa.Table]) -> tuple[tuple[str, ...], np.ndarray]:
    """The names of all sources, and which of them each window is of, int32 [windows]."""
    code_of: dict[str, int] = {}

    def codes(table: pa.Table) -> np.ndarray:
        found = single_chunk(table["source"]).dictionary_encode()
        known = [code_of.setdefault(name, len(code_of)) for name in found.dictionary.to_pylist()]
        return np.array(known, dtype=np.int32)[found.indices.to_numpy()]

    sources = windows.column(codes, np.int32)
    return tuple(code_of), sources


def _places(tables: Shards[pa.Table], sources: np.ndarray) -> WindowSet:
    return WindowSet(
        shards=np.repeat(np.arange(len(tables), dtype=np.int32), tables.rows),
        rows=tables.column(lambda table: np.arange(table.num_rows), np.int32),
        window_ids=column(tables, "window_id", np.uint64),
        lengths=tables.column(lambda table: from_list_column(table["ids"]).lengths, np.int32),
        sources=sources,
    )


def rows_of(tables: Shards[pa.Table], windows: WindowSet) -> pa.Table:
    """The rows of `windows` (at least one), copied into one small contiguous table."""
    places = zip(windows.shards.tolist(), windows.rows.tolist(), strict=True)
    return pa.concat_tables([tables[shard].slice(row, 1) for shard, row in places]).combine_chunks()
