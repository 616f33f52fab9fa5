"""What a loss is to the pass over the blocks: something that says what it asks of each block, and what it sums to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, Self, TypeVar

import numpy as np
import torch

from xtoken_core.losses.fast.rows import StudentRows
from xtoken_core.losses.sums import Measure


@dataclass(frozen=True, eq=False)
class BlockSums:
    """Of the items of one block: `loss`, differentiable, and `measured`, [measures of the term] without gradient."""

    loss: torch.Tensor
    measured: torch.Tensor


@dataclass(frozen=True, eq=False)
class Spans:
    """Groups of rows that must come in one block: those from `first[i]` to `last[i]`, included; int64 [g] each."""

    first: np.ndarray
    last: np.ndarray


@dataclass(frozen=True, eq=False)
class SharedPart:
    """Items that ranks of a group compute together, each with its own rows of them, perhaps none.

    row: int64 [n], the student's rows here, different ones.
    is_counted: whether the sums count on this rank; the gradient of its rows is wanted in any case.
    sums: of the items, from these rows in that order.
    """

    row: torch.Tensor
    is_counted: bool
    sums: Callable[[StudentRows], BlockSums]


class Term(Protocol):
    """One loss of some of the student's rows, with all that it needs but the student."""

    @property
    def count(self) -> int:
        """How many items (chunks, positions) the loss sums over."""

    @property
    def measures(self) -> dict[Measure, int]:
        """What is measured beside the loss, and over how many items."""

    @property
    def spans(self) -> Spans:
        """The rows that its items need together."""

    @property
    def parameters(self) -> tuple[torch.Tensor, ...]:
        """What gets a gradient beside the student."""

    @property
    def shared(self) -> SharedPart | None:
        """What it computes with other ranks after all blocks; None on all ranks or on none."""

    def block(self, rows: StudentRows, first: int) -> BlockSums | None:
        """The sums over the items of a block, whose rows are the student's from `first` on; None for no items."""

    def to(self, device: torch.device) -> Self:
        """The same on another device."""


NO_SPANS = Spans(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))


class RowTerm:
    """What the losses share whose items are single rows: nothing of these need others, on this rank or elsewhere."""

    @property
    def spans(self) -> Spans:
        return NO_SPANS

    @property
    def parameters(self) -> tuple[torch.Tensor, ...]:
        return ()

    @property
    def shared(self) -> SharedPart | None:
        return None


T = TypeVar("T")


def moved(term: T, device: torch.device) -> T:
    """A dataclass with all of its fields that can move on another device."""
    values = {field.name: getattr(term, field.name) for field in fields(term)}  # type: ignore[arg-type]
    there: dict[str, Any] = {name: value.to(device) for name, value in values.items() if hasattr(value, "to")}
    return replace(term, **there)  # type: ignore[type-var]


def block_bounds(rows: int, height: int, spans: Sequence[Spans]) -> list[int]:
    """Where blocks of about `height` rows may begin and end, ascending from 0 to `rows`, without cutting a span."""
    inside = np.zeros(rows + 1, dtype=np.int64)  # how many spans go on across the cut before each row
    for span in spans:
        np.add.at(inside, span.first + 1, 1)
        np.subtract.at(inside, span.last + 1, 1)
    allowed = np.flatnonzero(np.cumsum(inside) == 0)
    bounds = [0]
    while bounds[-1] < rows:
        at = np.searchsorted(allowed, bounds[-1] + height, side="right") - 1
        bounds.append(int(allowed[at] if allowed[at] > bounds[-1] else allowed[at + 1]))
    return bounds
