"""The precision that losses are computed in."""

import torch


def upcast(logits: torch.Tensor) -> torch.Tensor:
    """`logits` in float32, or in their own type where that is wider: half precision ends at the model's head."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
