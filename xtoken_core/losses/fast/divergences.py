"""Divergences with few passes over their arguments, which are as wide as a vocabulary."""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from xtoken_core.loss_options import DivergenceKind
from xtoken_core.losses.divergence import Divergence


def divergence(kind: Divergence, teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """The same as `kind.of(teacher, student)`; only the student's side gets a gradient."""
    if kind.kind == DivergenceKind.JSD:
        return kind.of(teacher, student)
    is_forward = kind.kind == DivergenceKind.FORWARD
    result: torch.Tensor = _KL.apply(teacher, student) if is_forward else _ReverseKL.apply(teacher, student)
    return result


class _KL(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
        probs = teacher.exp()
        ctx.save_for_backward(probs)
        return _weighted_sum(probs, teacher, student)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (probs,) = ctx.saved_tensors
        return None, probs.mul_(-gradient[..., None])


def forward_kl_of_logits(teacher: torch.Tensor, logits: torch.Tensor, normalizer: torch.Tensor) -> torch.Tensor:
    """KL(teacher || logits - normalizer) [n], of log-probabilities and logits [n, D] and `normalizer` [n].

    The student's log-probabilities are never written down: their normalizer is one number a row. It gets a gradient,
    and so do the logits. `teacher` is used up: its memory is where its probabilities are kept.
    """
    result: torch.Tensor = _LogitsKL.apply(teacher, logits, normalizer)
    return result


class _LogitsKL(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, teacher: torch.Tensor, logits: torch.Tensor, normalizer: torch.Tensor) -> torch.Tensor:
        difference, probs = teacher - logits, teacher.exp_()
        mass = probs.sum(dim=-1)
        ctx.save_for_backward(probs, mass)
        # What has no probability adds nothing, also where it is nan: a nan of either side comes back with the mass.
        return difference.mul_(probs).nansum(dim=-1) + normalizer * mass

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        probs, mass = ctx.saved_tensors
        return None, probs.mul_(-gradient[:, None]), gradient * mass


class _ReverseKL(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(teacher, student)
        return _weighted_sum(student.exp(), student, teacher)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        teacher, student = ctx.saved_tensors
        probs = student.exp()
        slope = (student - teacher).add_(1).mul_(probs).mul_(gradient[..., None])
        return None, slope.masked_fill_((probs == 0) | (gradient == 0)[..., None], 0.0)  # not inf * 0


def _weighted_sum(probs: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Sum of probs * (left - right), probs = exp(left); what has no probability adds nothing."""
    return (left - right).mul_(probs).masked_fill_(probs == 0, 0.0).sum(dim=-1)
