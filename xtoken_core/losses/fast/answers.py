"""Answers to what losses ask of a block of logits, and what the gradient of an answer means for the logits."""

from typing import Protocol

import torch

from xtoken_core.losses.cell_batch import CellBatch
from xtoken_core.losses.fast.cell_logmass import cell_gradient, cell_logmass
from xtoken_core.losses.fast.student import VocabularyShard
from xtoken_core.losses.fast.vocabulary_sums import log_sum_exp_over, sum_over
from xtoken_core.losses.precision import scaled, upcast

_PIECE = 1 << 20  # numbers of a few rows that are worked on at a time: 4 MB in float32, two threads' caches


class Answer(Protocol):
    """A differentiable `value` that was computed from some or all rows of the block."""

    value: torch.Tensor

    def add_gradient(self, gradient: torch.Tensor, rows: slice, out: torch.Tensor) -> None:
        """Add to `out`, the logits' gradient in `rows` of the block, what `gradient` of the value means for them."""


def pieces(logits: torch.Tensor) -> list[slice]:
    """Slices of a few rows each, at least one slice; on a GPU one of all rows."""
    rows = len(logits)
    height = max(1, rows if logits.is_cuda else _PIECE // max(1, logits.shape[1]))
    return [slice(start, min(start + height, rows)) for start in range(0, max(1, rows), height)]


class LogNormalizer:
    """logsumexp(logits / temperature) of every row, [n]."""

    def __init__(self, logits: torch.Tensor, temperature: float, shard: VocabularyShard | None) -> None:
        self._logits, self._temperature = logits, temperature
        parts = [torch.logsumexp(scaled(upcast(logits[rows]), temperature), dim=1) for rows in pieces(logits)]
        self.value = log_sum_exp_over(torch.cat(parts), shard)

    def write_gradient(self, gradient: torch.Tensor, rows: slice, out: torch.Tensor) -> None:
        logits = scaled(upcast(self._logits[rows]), self._temperature)
        torch.sub(logits, self.value.detach()[rows, None], out=out)
        out.exp_().mul_((gradient[rows] / self._temperature)[:, None])

    def add_gradient(self, gradient: torch.Tensor, rows: slice, out: torch.Tensor) -> None:
        own = torch.empty_like(out)
        self.write_gradient(gradient, rows, own)
        out.add_(own)


class All:
    """The logits themselves, [n, columns]."""

    def __init__(self, logits: torch.Tensor) -> None:
        self.value = upcast(logits).detach()

    def add_gradient(self, gradient: torch.Tensor, rows: slice, out: torch.Tensor) -> None:
        out.add_(gradient[rows])


class Columns:
    """The logits of the same ids in every row, [n, U]."""

    def __init__(self, logits: torch.Tensor, ids: torch.Tensor, shard: VocabularyShard | None) -> None:
        self._mine, columns = _own(ids, logits.shape[1], shard)
        self._columns = columns.expand(len(logits), -1)
        value = upcast(logits.gather(1, self._columns))
        if shard is not None:
            whole = value.new_zeros(len(logits), len(ids))
            whole[:, self._mine] = value
            value = sum_over(whole, shard)
        self.value = value

    def add_gradient(self, gradient: torch.Tensor, rows: slice, out: torch.Tensor) -> None:
        part = gradient[rows] if self._mine is None else gradient[rows][:, self._mine]
        out.scatter_add_(1, self._columns[rows], part)


class Picked:
    """The logits of other ids in each of some rows, [m, k]."""

    def __init__(
        self, logits: torch.Tensor, rows: torch.Tensor, ids: torch.Tensor, shard: VocabularyShard | None
    ) -> None:
        self._rows = rows
        self._columns, self._outside = _own_places(ids, logits.shape[1], shard)
        value = upcast(logits[rows[:, None], self._columns])
        if shard is not None:
            value = sum_over(value.masked_fill(self._outside, 0.0), shard)
        self.value = value

    def add_gradient(self, gradient: torch.Tensor, rows: slice, out: torch.Tensor) -> None:
        inside, wanted = _part(self._rows, rows, len(out))
        part = gradient[inside].masked_fill(self._outside[inside], 0.0)
        out.index_put_((wanted[:, None].expand_as(part), self._columns[inside]), part, accumulate=True)


class Without:
    """logsumexp of all logits but those of some ids, other ones in each of some rows, [m]."""

    def __init__(
        self, logits: torch.Tensor, rows: torch.Tensor, ids: torch.Tensor, shard: VocabularyShard | None
    ) -> None:
        self._logits, self._rows, self._is_split = logits, rows, shard is not None
        self._columns, self._outside = _own_places(ids, logits.shape[1], shard)
        parts = []
        for piece in pieces(logits):
            inside, wanted = _part(rows, piece, piece.stop - piece.start)
            parts.append(self._remaining(piece, inside, wanted).logsumexp(dim=1))
        self.value = log_sum_exp_over(torch.cat(parts), shard)

    def add_gradient(self, gradient: torch.Tensor, rows: slice, out: torch.Tensor) -> None:
        inside, wanted = _part(self._rows, rows, len(out))
        value = self.value.detach()[inside, None]
        probs = self._remaining(rows, inside, wanted).sub_(value.where(value > -torch.inf, 0.0)).exp_()
        probs.mul_(gradient[inside, None])
        if len(wanted) == len(out):
            out.add_(probs)
        else:
            out.index_add_(0, wanted, probs)

    def _remaining(self, piece: slice, inside: slice, wanted: torch.Tensor) -> torch.Tensor:
        """The wanted rows of the piece, -inf at their ids: a copy."""
        logits = upcast(rows_of(self._logits[piece], wanted))
        if not self._is_split:
            return logits.scatter(1, self._columns[inside], -torch.inf)
        # Several ids of a row can stand at column 0: the lowest wins, -inf where one of them is truly there.
        lowered = torch.where(self._outside[inside], torch.inf, -torch.inf).to(logits.dtype)
        return logits.scatter_reduce(1, self._columns[inside], lowered, "amin")


class Cells:
    """logsumexp of the logits in each cell of some rows, [m, M]."""

    def __init__(
        self, logits: torch.Tensor, rows: torch.Tensor, cells: CellBatch, shard: VocabularyShard | None
    ) -> None:
        self._logits, self._rows = logits, rows
        is_whole = shard is None and logits.shape[1] >= len(cells.order)
        self._cells = cells if is_whole else cells.shard(0 if shard is None else shard.first, logits.shape[1])
        self.value = log_sum_exp_over(cell_logmass(rows_of(logits, rows), self._cells), shard)

    def add_gradient(self, gradient: torch.Tensor, rows: slice, out: torch.Tensor) -> None:
        inside, wanted = _part(self._rows, rows, len(out))
        if not len(wanted):
            return
        first, last, _ = inside.indices(len(self._rows))
        logits = upcast(rows_of(self._logits[rows], wanted))
        own = cell_gradient(logits, self._cells.rows(first, last), self.value.detach()[inside], gradient[inside])
        if len(wanted) == len(out):
            out[:, : own.shape[1]] += own
        else:
            out[:, : own.shape[1]].index_add_(0, wanted, own)


def rows_of(logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """`logits` at `rows` (different ones, rising): themselves where these are all."""
    return logits if len(rows) == len(logits) else logits.index_select(0, rows)


def _own(ids: torch.Tensor, columns: int, shard: VocabularyShard | None) -> tuple[torch.Tensor | None, torch.Tensor]:
    """Which of `ids` this rank has (None: all), and their columns here."""
    if shard is None:
        return None, ids
    mine = (ids >= shard.first) & (ids < shard.first + columns)
    return mine, ids[mine] - shard.first


def _own_places(ids: torch.Tensor, columns: int, shard: VocabularyShard | None) -> tuple[torch.Tensor, torch.Tensor]:
    """The columns of `ids` here, and which of them are another rank's (their column is 0)."""
    own = ids.long() if shard is None else ids.long() - shard.first
    outside = (own < 0) | (own >= columns)
    return own.masked_fill(outside, 0), outside


def _part(asked: torch.Tensor, rows: slice, height: int) -> tuple[slice, torch.Tensor]:
    """Which of the rows `asked` (ascending) are in the slice `rows` of the block, and where in it."""
    if rows.start == 0 and height == rows.stop and (not len(asked) or asked.is_cuda):
        return slice(None), asked  # a GPU has one piece; asking it where the rows are would stop it
    first, last = torch.searchsorted(asked, asked.new_tensor([rows.start, rows.stop])).tolist()
    return slice(first, last), asked[first:last] - rows.start
