"""Losses and metrics as a sum and a count, to be added up over micro-batches and ranks before anyone divides."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class LossSum:
    """A sum and the number of terms in it; both are tensors without dimensions, `total` may carry a gradient."""

    total: torch.Tensor
    count: torch.Tensor

    @property
    def mean(self) -> torch.Tensor:
        """The sum divided by its own count, zero for no terms."""
        return self.total / self.count.clamp(min=1)
