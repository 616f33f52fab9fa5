"""The L1 distance of two lists of probabilities that are both sorted downwards."""

from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable


def ranked_l1(logits: torch.Tensor, normalizer: torch.Tensor, teacher: torch.Tensor, topk: int) -> torch.Tensor:
    """[n]: sum of |difference| of the `topk` largest probabilities, rank by rank; a longer list is cut to the shorter.

    logits: [n, U] and normalizer: [n, 1], the student's log-probabilities are their difference; both get a gradient.
    teacher: [n, W], log-probabilities.
    """
    ranks = min(topk, logits.shape[1], teacher.shape[1])
    return ((largest_of(logits, ranks) - normalizer).exp() - largest(teacher, ranks).exp_()).abs().sum(dim=-1)


def largest_of(values: torch.Tensor, count: int) -> torch.Tensor:
    """`largest`, with a gradient."""
    result: torch.Tensor = _Largest.apply(values, count)
    return result


class _Largest(torch.autograd.Function):
    """The largest values of each row, sorted downwards."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, count: int) -> torch.Tensor:
        found, places = largest_places(values, count)
        ctx.save_for_backward(places)
        ctx.columns = values.shape[1]
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (places,) = ctx.saved_tensors
        return gradient.new_zeros(len(gradient), ctx.columns).scatter_(1, places, gradient), None


def largest(values: torch.Tensor, count: int) -> torch.Tensor:
    """The `count` largest of each row of `values` [n, D], sorted downwards, [n, count]."""
    if values.is_cuda or values.dtype != torch.float32:
        return values.topk(count, dim=1).values
    return torch.from_numpy(_sorted_downwards(values.detach().numpy(), count))


def largest_places(values: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`largest`, and where in the row each of them stands, int64 [n, count]."""
    if values.is_cuda or values.dtype != torch.float32:
        found = values.topk(count, dim=1)
        return found.values, found.indices
    bits = values.detach().contiguous().numpy().view(np.int32).astype(np.int64)
    ascending = bits ^ ((bits >> 63) & 0x7FFFFFFF)  # as integers they are in the order of the floats
    packed = (ascending << 32) | np.arange(values.shape[1])
    places = torch.from_numpy(_sorted_downwards(packed, count) & 0xFFFFFFFF)
    return values.gather(1, places), places


def _sorted_downwards(values: np.ndarray, count: int) -> np.ndarray:
    """The largest of each row; numpy's sort is vectorized, on one core many times faster than torch's on several."""
    if 2 * count < values.shape[1]:  # one pass that finds the largest costs less than to sort the others
        values = np.partition(values, -count, axis=1)[:, -count:]
    return np.ascontiguousarray(np.sort(values, axis=1)[:, : -count - 1 : -1])
