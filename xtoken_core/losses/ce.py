"""Next-token cross-entropy."""

from dataclasses import dataclass

import torch
from torch.nn import functional

from xtoken_core.losses.precision import upcast
from xtoken_core.losses.sums import LossSum


@dataclass(frozen=True, eq=False)
class NextTokenSums:
    """Over the tokens that count: their nats, and how many of them were the most probable one."""

    loss: LossSum
    accuracy: LossSum


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """-log p(target) in nats, [N], from `logits` [N, V] and `targets` int [N], in float32 or the logits' wider type."""
    return functional.cross_entropy(upcast(logits), targets.long(), reduction="none")


def next_token_sums(
    logits: torch.Tensor, ids: torch.Tensor, token_mask: torch.Tensor, sample_mask: torch.Tensor
) -> NextTokenSums:
    """Sums over the tokens p + 1 of `ids` [B, S] that `token_mask` [B, S] and `sample_mask` [B] keep (1 or True).

    logits: [B, S, V]; position p predicts token p + 1, so the first token is never predicted.
    """
    counts = token_mask[:, 1:].bool() & sample_mask.bool()[:, None]
    predictions, targets = logits[:, :-1][counts], ids[:, 1:][counts]
    hits = predictions.argmax(dim=-1) == targets
    return NextTokenSums(
        loss=LossSum(cross_entropy(predictions, targets).sum(), counts.sum()),
        accuracy=LossSum(hits.sum(), counts.sum()),
    )
