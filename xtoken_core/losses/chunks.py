"""What a model predicts for the chunks of an alignment: means over each chunk's predictive positions."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class ChunkPositions:
    """The positions of one side that predict a token of some chunk.

    mask: bool [B, S]; n of its entries are set.
    chunk: int64 [n], the chunk that each of them predicts, counted through the batch: row * C + chunk of the row.
    counts: int64 [B * C], how many positions predict each chunk.
    """

    mask: torch.Tensor
    chunk: torch.Tensor
    counts: torch.Tensor

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Mean of `values` [n, D] over the positions of each chunk, [B * C, D]; zero for a chunk without any."""
        sums = values.new_zeros(len(self.counts), values.shape[1]).index_add(0, self.chunk, values)
        return sums / self.counts.clamp(min=1)[:, None]


def predictive_positions(token_chunk: torch.Tensor, chunks: int) -> ChunkPositions:
    """From the chunk of each *token*, int [B, S] with -1 for none and below `chunks` (= C) otherwise.

    Position p predicts token p + 1, so it belongs to that token's chunk; the last position belongs to none.
    """
    predicted = torch.full_like(token_chunk, -1, dtype=torch.int64)
    predicted[:, :-1] = token_chunk[:, 1:]
    mask = predicted >= 0
    rows = torch.arange(len(predicted), device=predicted.device)[:, None]
    chunk = (rows * chunks + predicted)[mask]
    return ChunkPositions(mask, chunk, torch.bincount(chunk, minlength=len(predicted) * chunks))
