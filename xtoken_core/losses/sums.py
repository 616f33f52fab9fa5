"""Losses and what is measured beside them, as sums to be added up over blocks, micro-batches and ranks."""

from dataclasses import dataclass
from enum import StrEnum

import torch


class Measure(StrEnum):
    """What a loss can tell about its items (chunks or positions) beside its value, each as a sum over them."""

    TOP1_AGREEMENT = "top1_agreement"  # both sides' most probable entry is the same
    COMMON_KL = "common_kl"  # of gold and h_kl, before temperature squared
    UNCOMMON_L1 = "uncommon_l1"  # likewise
    TAIL_MASS = "tail_mass"  # teacher probability in the rest of a record


@dataclass(frozen=True, eq=False)
class LossSum:
    """A sum and the number of terms in it; both are tensors without dimensions, `total` may carry a gradient."""

    total: torch.Tensor
    count: torch.Tensor

    @property
    def mean(self) -> torch.Tensor:
        """The sum divided by its own count, zero for no terms."""
        return self.total / self.count.clamp(min=1)


@dataclass(frozen=True, eq=False)
class LossSums:
    """What one loss says of some rows.

    loss: nats times temperature squared where the loss has that factor, over the items that count.
    measures: without gradient, each with its own count.
    """

    loss: LossSum
    measures: dict[Measure, LossSum]
