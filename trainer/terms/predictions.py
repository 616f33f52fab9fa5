"""The tokens of a micro-batch whose next token counts: the rows of the student's logits."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch


@dataclass(frozen=True, eq=False)
class Predictions:
    """The N tokens of a micro-batch whose next token counts.

    token: int64 [N], ascending, their places among all tokens of the micro-batch, window after window.
    targets: int64 [N], the token that follows.
    """

    token: torch.Tensor
    targets: torch.Tensor

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        return type(self)(*(tensor.to(device, non_blocking=True) for tensor in (self.token, self.targets)))

    def index(self, token: np.ndarray) -> torch.Tensor:
        """Which of the N predictions is made at each `token`; every one of them must be there."""
        known = self.token.numpy()
        found = np.searchsorted(known, token)
        assert np.array_equal(known[found], token), "a token lies outside the loss mask"
        return torch.from_numpy(found)
