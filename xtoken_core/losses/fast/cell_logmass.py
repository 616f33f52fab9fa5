"""logsumexp of logits over the cells of prefix_kl, a few rows at a time."""

import torch

from xtoken_core.losses.cell_batch import CellBatch
from xtoken_core.losses.fast.cell_tiles import CellTiles, tiles_in_order
from xtoken_core.losses.precision import upcast

# Logits worked on at once: on a CPU what its caches hold, elsewhere enough to keep a device busy.
CPU_BLOCK = 2**20
DEVICE_BLOCK = 2**25


def cell_logmass(logits: torch.Tensor, cells: CellBatch) -> torch.Tensor:
    """logsumexp of `logits` [n, columns] over the student ids of each cell, [n, M]; -inf for a cell without any.

    In float32, or float64 if the logits are. Each cell is shifted by its own largest logit, so that none underflows
    beside a likelier one. The columns are the ids of `cells`; columns beyond them have no part.
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    logmass = logits.new_empty(len(cells), cells.columns, dtype=dtype)
    for first, last in _blocks(logits):
        logmass[first:last] = _logmass(upcast(logits[first:last]), cells.rows(first, last))
    return logmass


def cell_gradient(logits: torch.Tensor, cells: CellBatch, logmass: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
    """The gradient of a few rows of logits, [n, student ids], from that of their `logmass` [n, M]."""
    order = cells.order.long()
    place = torch.empty_like(order)
    place[order] = torch.arange(len(place), device=place.device)
    return _gradient(logits, cells, logmass, grad).gather(1, place.expand(len(logits), -1))


def _blocks(logits: torch.Tensor) -> list[tuple[int, int]]:
    """The first row of each block and the one after its last."""
    room = CPU_BLOCK if logits.device.type == "cpu" else DEVICE_BLOCK
    size = max(1, room // max(1, logits.shape[1]))
    return [(first, min(first + size, len(logits))) for first in range(0, len(logits), size)]


def _logmass(logits: torch.Tensor, cells: CellBatch) -> torch.Tensor:
    """The result for one block: first within tiles, then over the tiles and single tokens of each cell."""
    tiles = CellTiles.of(cells)
    values = tiles_in_order(logits, cells.order)
    of_tile = _tile_logsumexp(values)
    of_tile[tiles.mixed] = -torch.inf  # their tokens stand for themselves
    parts = torch.cat([of_tile, values[tiles.mixed].flatten()])
    cell = torch.cat([tiles.tile_cell, tiles.mixed_cell.flatten()])
    largest = parts.new_full((len(cells) * cells.columns,), -torch.inf).scatter_reduce_(0, cell, parts, "amax")
    shift = torch.where(largest == -torch.inf, 0.0, largest)
    masses = (parts - shift[cell]).exp_().double()  # in float32 five digits of a large cell would be left
    sums = torch.zeros_like(shift, dtype=torch.float64).scatter_add_(0, cell, masses)
    return (sums.log().to(shift.dtype) + shift).view(len(cells), cells.columns)


def _tile_logsumexp(tiles: torch.Tensor) -> torch.Tensor:
    """logsumexp of each row: of x - log_softmax(x) at the largest x, whose kernel is one pass."""
    largest = tiles.amax(1)
    return torch.where(largest == -torch.inf, largest, largest - tiles.log_softmax(1).amax(1))


def _gradient(logits: torch.Tensor, cells: CellBatch, logmass: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
    """exp(logit - logmass of its cell) times the cell's gradient, at each place of one block: [rows, places]."""
    tiles = CellTiles.of(cells)
    values = tiles_in_order(logits, cells.order)
    present = logmass > -torch.inf
    shift, factor = torch.where(present, logmass, 0.0).flatten(), torch.where(present, grad, 0.0).flatten()
    single = (values[tiles.mixed] - shift[tiles.mixed_cell]).exp_() * factor[tiles.mixed_cell]
    values.sub_(shift[tiles.tile_cell, None]).exp_().mul_(factor[tiles.tile_cell, None])
    values[tiles.mixed] = single
    return values.view(len(cells), -1)
