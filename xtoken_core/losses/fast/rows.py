"""What losses ask of a block of the student's logits, and the gradient of the block from the gradients of the answers.

A loss never needs all logits as they are: it asks for their logsumexp, the logits of some ids, or the masses of some
sets of ids, and computes with those few numbers. So its gradient reaches the logits through the answers alone, and all
losses together write a block's gradient in one pass, without a copy of the block in between.

With a vocabulary shard the answers are those of the whole vocabulary, reduced over the ranks; the gradients of a rank's
own logits follow from them without further communication, because all ranks compute the same losses from them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist

from xtoken_core.losses.cell_batch import CellBatch
from xtoken_core.losses.fast.answers import (
    All,
    Answer,
    Cells,
    Columns,
    LogNormalizer,
    Picked,
    Without,
    pieces,
    rows_of,
)
from xtoken_core.losses.fast.ranked_l1 import largest_places
from xtoken_core.losses.fast.student import VocabularyShard
from xtoken_core.losses.fast.vocabulary_sums import max_over
from xtoken_core.losses.precision import upcast


@dataclass(frozen=True, eq=False)
class TargetOdds:
    """Of the token that follows each row, all [n]: its logit, and the logsumexp of the logits of all other tokens.

    Together they say log p as well as log(1 - p) without rounding either to zero.
    """

    logit: torch.Tensor
    others: torch.Tensor


class StudentRows:
    """A block of logits [n, columns], of the whole vocabulary or a shard of it; `targets` [n], see `StudentOutput`."""

    def __init__(
        self,
        logits: torch.Tensor,
        targets: torch.Tensor | None,
        shard: VocabularyShard | None,
        differentiable: bool,
    ) -> None:
        self._logits, self._targets, self._shard, self._differentiable = logits, targets, shard, differentiable
        self._answers: list[Answer] = []
        self._normalizers: dict[float, torch.Tensor] = {}
        self._odds: TargetOdds | None = None

    def __len__(self) -> int:
        return len(self._logits)

    @property
    def dtype(self) -> torch.dtype:
        """The type that answers have: float32, or the logits' wider one."""
        return torch.promote_types(self._logits.dtype, torch.float32)

    @property
    def is_sharded(self) -> bool:
        """Whether other ranks hold the rest of the vocabulary."""
        return self._shard is not None

    @property
    def answers(self) -> list[torch.Tensor]:
        """All values given so far."""
        return [answer.value for answer in self._answers]

    def log_normalizer(self, temperature: float) -> torch.Tensor:
        """logsumexp(logits / temperature) of each row, [n]."""
        if temperature not in self._normalizers:
            if temperature == 1 and self._odds is not None:
                value = torch.logaddexp(self._odds.logit, self._odds.others)
            else:
                value = self._register(LogNormalizer(self._logits, temperature, self._shard))
            self._normalizers[temperature] = value
        return self._normalizers[temperature]

    def target_odds(self) -> TargetOdds:
        """Of the targets."""
        assert self._targets is not None, "a loss looks at the next tokens: give the student's output its `targets`"
        if self._odds is None:
            rows, ids = torch.arange(len(self), device=self._targets.device), self._targets[:, None]
            self._odds = TargetOdds(self.picked(rows, ids)[:, 0], self.without(rows, ids))
        return self._odds

    def in_range(self) -> torch.Tensor:
        """Whether no row is known to hold nan or +inf, bool: such a row's normalizer, or odds, are none that exist."""
        asked = list(self._normalizers.values())
        if self._odds is not None:
            asked += [self._odds.logit, self._odds.others]
        sound = [(value.detach() < torch.inf).all() for value in asked]
        return torch.stack(sound).all() if sound else torch.ones((), dtype=torch.bool, device=self._logits.device)

    def largest(self) -> torch.Tensor:
        """The largest logit of each row, [n], without gradient."""
        return max_over(upcast(self._logits.amax(dim=1)), self._shard)

    def top_ids(self, rows: torch.Tensor, count: int) -> torch.Tensor:
        """The ids of the `count` largest logits in `rows` int64 [m], by falling logit, [m, count].

        Raises:
            ValueError: for a part of a vocabulary.
        """
        self._require_whole()
        return largest_places(upcast(rows_of(self._logits, rows)), count)[1]

    def all_logits(self) -> torch.Tensor:
        """The logits themselves, [n, columns].

        Raises:
            ValueError: for a part of a vocabulary.
        """
        self._require_whole()
        return self._register(All(self._logits))

    def columns(self, ids: torch.Tensor) -> torch.Tensor:
        """The logits of `ids` int64 [U], all different, in every row: [n, U]."""
        return self._register(Columns(self._logits, ids, self._shard))

    def picked(self, rows: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """The logits of other ids in each row, `ids` int64 [m, k], in `rows` int64 [m], all rising: [m, k]."""
        return self._register(Picked(self._logits, rows, ids, self._shard))

    def without(self, rows: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """logsumexp of the logits of all but `ids` int64 [m, k], different in a row, in `rows` as for `picked`: [m]."""
        return self._register(Without(self._logits, rows, ids, self._shard))

    def cell_logmass(self, rows: torch.Tensor, cells: CellBatch) -> torch.Tensor:
        """logsumexp of the logits in each cell, [m, M], of `rows` int64 [m], all different and ascending."""
        return self._register(Cells(self._logits, rows, cells, self._shard))

    def new_gradient(self) -> torch.Tensor:
        """Room for the gradient of the logits, in their type."""
        return torch.empty_like(self._logits)

    def write_gradient(self, gradients: Sequence[torch.Tensor | None], out: torch.Tensor) -> None:
        """Write to `out` [n, columns] the gradient of the logits, from the gradient of each of `answers`."""
        pairs = zip(self._answers, gradients, strict=True)
        given = [(answer, gradient) for answer, gradient in pairs if gradient is not None]
        for rows in pieces(self._logits):
            piece = out[rows] if out.dtype == self.dtype else torch.empty_like(out[rows], dtype=self.dtype)
            self._write_piece(given, rows, piece)
            if piece.dtype != out.dtype:
                out[rows] = piece

    def _write_piece(self, given: list[tuple[Answer, torch.Tensor]], rows: slice, piece: torch.Tensor) -> None:
        """A normalizer's gradient reaches every logit, so the first of them can write where nothing is yet."""
        normalizers = ((answer, gradient) for answer, gradient in given if isinstance(answer, LogNormalizer))
        first, gradient = next(normalizers, (None, None))
        if first is None or gradient is None:
            piece.zero_()
        else:
            first.write_gradient(gradient, rows, piece)
        for answer, gradient in given:
            if answer is not first:
                answer.add_gradient(gradient, rows, piece)

    def _require_whole(self) -> None:
        if self._shard is not None:
            raise ValueError(
                f"this rank holds {self._logits.shape[1]} ids, from {self._shard.first} on, of a vocabulary split "
                f"over {dist.get_world_size(self._shard.group)} ranks; gold, h_kl and uld rank all of a "
                "vocabulary's logits: gather them on each rank first, or use p_kl, prefix_kl, direct_kl or alm"
            )

    def _register(self, answer: Answer) -> torch.Tensor:
        answer.value.requires_grad_(self._differentiable)
        self._answers.append(answer)
        return answer.value
