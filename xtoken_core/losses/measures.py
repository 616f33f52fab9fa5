"""What losses measure beside their value."""

import torch

from xtoken_core.losses.sums import LossSum


def top1_agreement(teacher: torch.Tensor, student: torch.Tensor) -> LossSum:
    """How many rows of two [N, D] have their largest entry at the same place; none if there are no entries."""
    count = torch.tensor(len(teacher), device=teacher.device)
    if not teacher.shape[1]:
        return LossSum(torch.zeros_like(count), count)
    return LossSum((teacher.argmax(dim=-1) == student.argmax(dim=-1)).sum(), count)


def total_of(values: torch.Tensor) -> LossSum:
    """The sum of `values` [N], without gradient, and N."""
    return LossSum(values.detach().sum(), torch.tensor(len(values), device=values.device))
