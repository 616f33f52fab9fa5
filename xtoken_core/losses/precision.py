"""The precision that losses are computed in, and sums that keep their gradient finite where a probability is zero."""

import torch


def upcast(logits: torch.Tensor) -> torch.Tensor:
    """`logits` in float32, or in their own type where that is wider: half precision ends at the model's head."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def scaled(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """`logits` / `temperature`, without a copy at temperature 1."""
    return logits if temperature == 1 else logits / temperature


def log_softmax(values: torch.Tensor) -> torch.Tensor:
    """Over the last dimension, as wide as a vocabulary: in six digits.

    torch's own adds up float32 numbers one after another on a CPU, which leaves four digits of 150,000 of them.
    """
    shifted = values - values.detach().amax(dim=-1, keepdim=True)
    return shifted - shifted.exp().sum(dim=-1, keepdim=True).log()


def logsumexp(values: torch.Tensor) -> torch.Tensor:
    """Over the last dimension; the gradient of a row of nothing but -inf is zero, where torch's is nan."""
    some = (values > -torch.inf).any(dim=-1)
    return values.where(some[..., None], 0.0).logsumexp(dim=-1).where(some, -torch.inf)


def logaddexp(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """log(exp(left) + exp(right)); the gradient where both are -inf is zero, where torch's is nan."""
    some = (left > -torch.inf) | (right > -torch.inf)
    return torch.logaddexp(left.where(some, 0.0), right.where(some, 0.0)).where(some, -torch.inf)
