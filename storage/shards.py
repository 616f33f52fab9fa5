"""The shards of an artifact, a bounded number of them open at once."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike

from storage.artifact import Artifact, read_table
from storage.manifest import FileEntry

Shard = TypeVar("Shard")

# Linux lets a process have 65,530 mappings (vm.max_map_count), and each mapped file is one. Opening takes 0.15 ms.
OPEN_AT_ONCE = 1000


class Shards(Generic[Shard]):
    """What `form` makes of each shard: the tables themselves, or something that lies in the same mapped file.

    The last `OPEN_AT_ONCE` that were asked for stay open, and so does what somebody holds.
    """

    def __init__(self, folder: Path, entries: Sequence[FileEntry], form: Callable[[pa.Table], Shard]) -> None:
        self.folder = folder
        self.entries = tuple(entries)
        paths = [folder / entry.name for entry in entries]
        self._shard = lru_cache(OPEN_AT_ONCE)(lambda index: form(read_table(paths[index])))

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Shard:
        return self._shard(index)

    def __iter__(self) -> Iterator[Shard]:
        return (self[index] for index in range(len(self)))

    @property
    def rows(self) -> list[int]:
        """The rows of each shard."""
        return [entry.rows for entry in self.entries]

    def column(self, of: Callable[[Shard], np.ndarray], dtype: DTypeLike) -> np.ndarray:
        """`of` each shard, one number for each of its rows, copied into one array [rows of all shards]."""
        found = np.empty(sum(self.rows), dtype=dtype)
        end = 0
        for shard, rows in zip(self, self.rows, strict=True):
            found[end : end + rows] = of(shard)
            end += rows
        return found


def tables_of(artifact: Artifact) -> Shards[pa.Table]:
    """The tables of a finished artifact."""
    return table_shards(artifact.folder, artifact.manifest.shards)


def table_shards(folder: Path, entries: Sequence[FileEntry]) -> Shards[pa.Table]:
    """The tables of some shards in a folder."""
    return Shards(folder, entries, lambda table: table)


def column(tables: Shards[pa.Table], name: str, dtype: DTypeLike) -> np.ndarray:
    """A column of numbers of all tables."""
    return tables.column(lambda table: table[name].to_numpy(), dtype)
