"""W with weights that are trained: the entries stay where they are, what they count is learned.

A row is a softmax over its entries, so that it stays a distribution whatever the optimizer does. Training starts at W.
"""

import numpy as np
import torch

from xtoken_core.projection.matrix import Projection, Rule

# In the ancestors' tools a learned scale slot begins at this logit: the row gives 1.8% of itself away.
_SLOT_LOGIT = -4.0


class LearnableProjection(torch.nn.Module):
    """Gives `indices` [Vs, k] (int32, -1 empty) and, when called, `weights` [Vs, k] (float32) for p_kl.

    scale_slot: the last column is no teacher token but a learned share of the row that goes nowhere; it must be empty
    in `projection` (`ProjectionSettings.scale_slot`). Without it rows sum to one. Rows without entries stay empty, and
    a row with one entry and no slot has nothing to learn: it stays exactly one.
    """

    indices: torch.Tensor

    def __init__(self, projection: Projection, scale_slot: bool = False) -> None:
        super().__init__()
        if scale_slot and (projection.indices[:, -1] >= 0).any():
            raise ValueError(
                "the last column of the projection has entries, so it is no scale slot: build it with scale_slot=True."
            )
        # The state is what is learned: the logits.
        self.register_buffer("indices", torch.from_numpy(np.array(projection.indices)), persistent=False)
        self.scale_slot = scale_slot
        logits = torch.from_numpy(np.array(projection.weights)).clamp(min=torch.finfo(torch.float32).tiny).log()
        if scale_slot:
            logits[:, -1] = _SLOT_LOGIT
        self.logits = torch.nn.Parameter(logits)

    def forward(self) -> torch.Tensor:
        """The weights of now, float32 [Vs, k]; 0 where there is no entry."""
        is_entry = self.indices >= 0
        counted = is_entry.clone()
        counted[:, -1] |= self.scale_slot
        # An empty row would be 0/0, whose gradient is NaN even where it is masked: it is given equal logits first.
        logits = self.logits.masked_fill(~counted & counted.any(dim=1, keepdim=True), -torch.inf)
        return logits.softmax(dim=1) * is_entry

    def projection(self, rules: np.ndarray) -> Projection:
        """A copy with the weights of now, each row by falling weight; `rules` of the projection it was made from."""
        weights = self().detach().cpu().numpy()
        order = np.argsort(-weights, axis=1, kind="stable")
        columns = (np.take_along_axis(part, order, axis=1) for part in (self.indices.cpu().numpy(), weights, rules))
        indices, weights, rules = columns
        assert ((rules == Rule.EMPTY) == (indices < 0)).all()
        return Projection(indices, weights, rules)
