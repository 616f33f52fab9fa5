"""The chunks of a batch, sorted by the student's rows, so that those of a block are a slice."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
import torch.distributed as dist

from xtoken_core.losses.chunks import ChunkRows, Chunks
from xtoken_core.losses.fast.chunk_block import ChunkBlock, ChunkSlice, SharedSlice
from xtoken_core.losses.fast.shared_chunks import SharedChunks
from xtoken_core.losses.fast.term import Spans, moved


@dataclass(frozen=True, eq=False)
class SideRows:
    """One side's rows of all chunks, chunk after chunk. `row` is on the losses' device, the others stay on the CPU.

    row: int64 [n]. row_here: the same as numpy. chunk: int64 [n], rising, on the device.
    offsets: int64 [C + 1], where the rows of each chunk begin.
    """

    row: torch.Tensor
    row_here: np.ndarray
    chunk: torch.Tensor
    offsets: np.ndarray

    @classmethod
    def of(cls, rows: ChunkRows, chunks: int) -> Self:
        offsets = np.concatenate([[0], np.cumsum(rows.counts(chunks).numpy())])
        return cls(rows.row, rows.row.numpy(), rows.chunk, offsets)

    def between(self, start: int, stop: int, first_row: int) -> ChunkSlice:
        """The rows of chunks start to stop, counted from `first_row` on; chunks are counted from `start` on."""
        inside = slice(int(self.offsets[start]), int(self.offsets[stop]))
        here = self.row_here[inside]
        is_run = len(here) > 0 and bool((np.diff(here) == 1).all())
        run = slice(int(here[0]) - first_row, int(here[-1]) + 1 - first_row) if is_run else None
        return ChunkSlice(self.row[inside] - first_row, self.chunk[inside] - start, stop - start, run)

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        row, chunk = (tensor.to(device, non_blocking=True) for tensor in (self.row, self.chunk))
        return replace(self, row=row, chunk=chunk)


@dataclass(frozen=True, eq=False)
class SharedTable:
    """The usable chunks that this rank shares with others, in the same order on all of them.

    row: int64 [n], the rows of the student here that are theirs.
    is_counted: whether this is the rank that counts them.
    """

    row: torch.Tensor
    block: ChunkBlock
    is_counted: bool

    @classmethod
    def of(cls, shared: SharedChunks) -> Self:
        """Made once a batch, on the CPU."""
        chunks, kept = shared.chunks, shared.chunks.usable.nonzero()[:, 0]
        student, teacher = (_renumbered(rows, kept, len(chunks)) for rows in (chunks.student, chunks.teacher))
        among = torch.arange(len(student.row))
        slices = (
            SharedSlice(among, student.chunk, len(kept), slice(0, len(among)), shared.group),
            SharedSlice(teacher.row, teacher.chunk, len(kept), None, shared.group),
        )
        return cls(student.row, ChunkBlock(*slices, chunks.counted[kept]), dist.get_rank(shared.group) == 0)

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        return moved(self, device)


@dataclass(frozen=True, eq=False)
class ChunkTable:
    """The usable chunks, those whose student rows come first in front. spans: the student rows of each.

    usable_count, count: how many chunks, shared ones that count on this rank included, are usable and counted.
    """

    student: SideRows
    teacher: SideRows
    counted: torch.Tensor
    usable_count: int
    count: int
    spans: Spans
    shared: SharedTable | None

    @classmethod
    def of(cls, chunks: Chunks, shared: SharedChunks | None = None) -> Self:
        """Made once a batch, on the CPU. shared: chunks with rows on other ranks too, none of them in `chunks`."""
        first, last = _first_and_last(chunks.student, len(chunks))
        kept = chunks.usable.nonzero()[:, 0]
        kept = kept[first[kept].argsort(stable=True)]
        student, teacher = (
            SideRows.of(_renumbered(rows, kept, len(chunks)), len(kept)) for rows in (chunks.student, chunks.teacher)
        )
        counted = chunks.counted[kept]
        table = SharedTable.of(shared) if shared is not None and shared.chunks.usable.any() else None
        counts = [counted, table.block.counted] if table is not None and table.is_counted else [counted]
        usable_count, count = sum(len(part) for part in counts), sum(int(part.sum()) for part in counts)
        spans = Spans(first[kept].numpy(), last[kept].numpy())
        return cls(student, teacher, counted, usable_count, count, spans, table)

    def between(self, first: int, last: int) -> ChunkBlock:
        """The chunks of the student rows from `first` to `last`, which are counted from 0 there.

        Teacher rows stay rows of the whole batch.
        """
        start, stop = (int(place) for place in np.searchsorted(self.spans.first, [first, last]))
        student, teacher = self.student.between(start, stop, first), self.teacher.between(start, stop, 0)
        return ChunkBlock(student, teacher, self.counted[start:stop])

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        return moved(self, device)


def _first_and_last(rows: ChunkRows, chunks: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The lowest and the highest row of each chunk, -1 for a chunk without any."""
    none = torch.full((chunks,), -1)
    first = none.scatter_reduce(0, rows.chunk, rows.row, "amin", include_self=False)
    return first, none.scatter_reduce(0, rows.chunk, rows.row, "amax")


def _renumbered(rows: ChunkRows, kept: torch.Tensor, chunks: int) -> ChunkRows:
    """The rows of the chunks that are `kept`, which are numbered in its order; sorted by the new number and by row."""
    number = torch.full((chunks,), -1)
    number[kept] = torch.arange(len(kept))
    chunk = number[rows.chunk]
    order = rows.row.argsort(stable=True)
    order = order[chunk[order].argsort(stable=True)]
    order = order[chunk[order] >= 0]
    return ChunkRows(rows.row[order], chunk[order])
