"""What one teacher contributes to the loss of a micro-batch, in two steps.

A plan is made a step ahead, in the background: it is small, and it knows how many items (boundaries, chunks) the loss
sums over before the student has run, so that all ranks can agree on the divisor first. What is as wide as a vocabulary
at each position (gigabytes, for a hundred thousand tokens) comes with `ready`, right before it is used. What all ranks
must agree on comes last: `Ready.term` takes it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

import torch

from xtoken_core.losses.fast.p_kl import ColumnEntries
from xtoken_core.losses.fast.position_term import Positions
from xtoken_core.losses.fast.term import Term
from xtoken_core.losses.teachers import TeacherScores


@dataclass(frozen=True, eq=False)
class Shared:
    """What all ranks and micro-batches of a step have in common for one teacher.

    columns: int64 [K], the teacher ids to compare, of losses that compare the likeliest ones.
    entries: the projection's for these columns, of p_kl.
    """

    columns: torch.Tensor | None = None
    entries: ColumnEntries | None = None


class Ready(Protocol):
    """A loss with all of the micro-batch's data."""

    def to(self, device: torch.device) -> Self:
        """The same on another device."""

    def term(self, shared: Shared) -> Term:
        """The loss itself."""


@dataclass(frozen=True, eq=False)
class TermPlan:
    """One teacher's part of a micro-batch.

    count: how many items (chunks, positions) the loss sums over. chunks, exact_chunks: how many chunks of the alignment
        count, and how many of them are exact.
    column_scores: [teacher ids], how likely each is anywhere in the micro-batch, for losses that compare the likeliest.
    scores: how the teacher does on its own tokens, where that is asked for.
    positions: where the loss is taken, of losses at single positions.
    ready: makes the large parts, on the CPU; called in a background thread.
    """

    count: int
    chunks: int
    exact_chunks: int
    ready: Callable[[], Ready]
    column_scores: torch.Tensor | None = None
    scores: TeacherScores | None = None
    positions: Positions | None = None


@dataclass(frozen=True, eq=False)
class Whole:
    """A loss that needs nothing from other ranks."""

    loss: Term

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        return type(self)(self.loss.to(device))

    def term(self, shared: Shared) -> Term:
        """See `Ready.term`."""
        return self.loss
