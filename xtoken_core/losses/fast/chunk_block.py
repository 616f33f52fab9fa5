"""Some chunks of a batch, and which rows of both sides are theirs."""

from dataclasses import dataclass
from typing import Self

import torch
import torch.distributed as dist

from xtoken_core.losses.fast.segment_mean import segment_mean
from xtoken_core.losses.fast.shared_chunks import sum_over_ranks
from xtoken_core.losses.fast.term import moved


@dataclass(frozen=True, eq=False)
class ChunkSlice:
    """One side's rows of `chunks` chunks; `run` says the same as `row` where they are consecutive."""

    row: torch.Tensor
    chunk: torch.Tensor
    chunks: int
    run: slice | None

    def take(self, values: torch.Tensor) -> torch.Tensor:
        """`values` at the rows; a view where that is possible, `values` themselves for all rows."""
        if self.run is None:
            return values.index_select(0, self.row)
        return values if self.run == slice(0, len(values)) else values[self.run]

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Means over each chunk of what `take` gave, [n, D] -> [chunks, D]."""
        return values if len(self.chunk) == self.chunks else segment_mean(values, self.chunk, self.chunks)

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Sums over each chunk of what `take` gave, [n] -> [chunks]."""
        return values.new_zeros(self.chunks).index_add(0, self.chunk, values)

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        return moved(self, device)


@dataclass(frozen=True, eq=False)
class SharedSlice(ChunkSlice):
    """This rank's rows of chunks that it shares with `group`, perhaps none; sums and means are of all ranks' rows."""

    group: dist.ProcessGroup

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Differentiable for all ranks that compute the same from it."""
        own = values.new_zeros(self.chunks, values.shape[1]).index_add(0, self.chunk, values)
        counts = self.sum(values.new_ones(len(self.chunk)))
        return sum_over_ranks(own, self.group) / counts.clamp(min=1)[:, None]

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Likewise."""
        return sum_over_ranks(super().sum(values), self.group)


@dataclass(frozen=True, eq=False)
class ChunkBlock:
    """The chunks of one block of student rows, or the shared ones; all are usable. counted: [chunks], see `Chunks`."""

    student: ChunkSlice
    teacher: ChunkSlice
    counted: torch.Tensor

    def __len__(self) -> int:
        return len(self.counted)

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        return moved(self, device)
