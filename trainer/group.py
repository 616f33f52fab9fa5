"""The workers of a run, as one of them sees them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist

from trainer.errors import LASTING, PeerFailedError

T = TypeVar("T")


@dataclass(frozen=True)
class Group:
    """This worker's rank, how many there are, and the device that it computes on.

    With one worker no process group is needed. Every rank must call the collectives in the same order.
    """

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this worker writes the files of the run."""
        return self.rank == 0

    def sum(self, values: np.ndarray) -> np.ndarray:
        """The element-wise sum over all ranks, float64 of the same shape."""
        values = np.asarray(values, dtype=np.float64)
        if self.world_size == 1:
            return values
        return self._reduced(torch.from_numpy(values.copy()), dist.ReduceOp.SUM).numpy()

    def max(self, values: torch.Tensor) -> torch.Tensor:
        """The element-wise maximum over all ranks, of the same type and shape, on the CPU."""
        return values if self.world_size == 1 else self._reduced(values, dist.ReduceOp.MAX)

    def average_(self, values: torch.Tensor) -> None:
        """Make `values` on this worker's device, in place, their element-wise mean over all ranks."""
        if self.world_size > 1:
            dist.all_reduce(values, dist.ReduceOp.SUM)
            values.div_(self.world_size)

    def together(self, work: Callable[[], T]) -> T:
        """Run `work` on every rank; where it fails for good on one rank it fails on all, so that no rank waits for it.

        Raises the error of `work` where it failed, PeerFailedError on the other ranks.
        """
        error: Exception | None = None
        try:
            result = work()
        except LASTING as failure:
            error = failure
        failures = self.sum(np.array([error is not None]))[0]
        if error is not None:
            raise error
        if failures:
            raise PeerFailedError("another worker failed")
        return result

    def first_only(self, work: Callable[[], object]) -> None:
        """Run `work` on rank 0 while the others wait; where it fails for good, all ranks fail (see `together`)."""
        self.together(lambda: work() if self.is_first else None)

    def _reduced(self, tensor: torch.Tensor, operation: dist.ReduceOp.RedOpType) -> torch.Tensor:
        tensor = tensor.to(self.device)
        dist.all_reduce(tensor, operation)
        return tensor.cpu()
