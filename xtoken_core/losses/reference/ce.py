"""Next-token cross-entropy: -log p(target) = logsumexp(z) - z[target], summed over positions."""

import torch

from xtoken_core.losses.measures import total_of
from xtoken_core.losses.precision import upcast
from xtoken_core.losses.sums import LossSum, LossSums, Measure


def cross_entropy(student_logits: torch.Tensor, targets: torch.Tensor) -> LossSums:
    """See `losses.cross_entropy`."""
    nats = token_nats(student_logits, targets)
    hits = student_logits.argmax(dim=-1) == targets
    return LossSums(LossSum(nats.sum(), total_of(nats).count), {Measure.TOP1_AGREEMENT: total_of(hits)})


def token_nats(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """-log p(target) of each position, [N], in float32 or the logits' wider type. logits: [N, V], targets: int [N]."""
    logits = upcast(logits)
    return logits.logsumexp(dim=-1) - logits.gather(1, targets.long()[:, None])[:, 0]
