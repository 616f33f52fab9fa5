"""How a few rows of logits in prefix order fall into cells, tile by tile.

A tile is `TILE` places side by side. Nearly all tiles lie within one segment and are worked on whole, with vector
instructions; the few that a segment ends in, at most as many as a row has segments, are worked on token by token.
"""

from dataclasses import dataclass
from typing import Self

import torch

from xtoken_core.losses.cell_batch import CellBatch

# Narrow tiles leave fewer tokens in mixed ones, wide ones leave fewer tiles: some thousand of either in 128,256 ids.
TILE = 32


@dataclass(frozen=True, eq=False)
class CellTiles:
    """The tiles of some rows, one row after another. Cells are numbers among all cells of the rows: row * M + column.

    tile_cell: int64 [tiles], the cell that the first place of each tile falls in.
    mixed: int64 [m], the tiles in which a segment ends before their last place.
    mixed_cell: int64 [m, TILE], the cell of each of their places.
    """

    tile_cell: torch.Tensor
    mixed: torch.Tensor
    mixed_cell: torch.Tensor

    @classmethod
    def of(cls, cells: CellBatch) -> Self:
        """Of all rows of `cells`, each filled up to whole tiles with places of its last segment."""
        width = padded_width(len(cells.order))
        ends = cells.segment_end.long()
        ends = torch.where(ends == len(cells.order), width, ends)  # a row without ids has width 0 and no places
        first_place = width * torch.arange(len(cells), device=ends.device)[:, None]
        ends = (ends + first_place).flatten()
        row_cell = cells.columns * torch.arange(len(cells), device=ends.device)[:, None]
        cell = (cells.segment_cell + row_cell).flatten()
        tiles_before = (ends + TILE - 1) // TILE  # tiles that begin before each end
        begins = tiles_before.diff(prepend=tiles_before.new_zeros(1))
        tile_segment = torch.repeat_interleave(begins, output_size=len(cells) * (width // TILE))
        inner = ends[ends % TILE > 0]
        mixed, which = torch.unique_consecutive(inner // TILE, return_inverse=True)
        passed = inner.new_zeros(len(mixed) * TILE).index_add_(0, which * TILE + inner % TILE, torch.ones_like(inner))
        mixed_segment = tile_segment[mixed][:, None] + passed.view(-1, TILE).cumsum(1)
        return cls(cell[tile_segment], mixed, cell[mixed_segment])


def padded_width(ids: int) -> int:
    """The places of a row of `ids` tokens in whole tiles."""
    return -(-ids // TILE) * TILE


def tiles_in_order(logits: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """`logits` [n, columns] in prefix order, [n * tiles, TILE]; places that fill up the last tile get -inf."""
    width = padded_width(len(order))
    places = torch.nn.functional.pad(order, (0, width - len(order))).long()
    tiled = logits.gather(1, places.expand(len(logits), -1))  # with one list of places twice as fast as index_select
    tiled[:, len(order) :] = -torch.inf
    return tiled.view(-1, TILE)
