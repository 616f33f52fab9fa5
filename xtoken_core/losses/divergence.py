"""How far one distribution is from another: KL in either direction, or something between the two."""

import math
from dataclasses import dataclass

import torch

from xtoken_core.loss_options import DivergenceKind
from xtoken_core.losses.precision import logaddexp


@dataclass(frozen=True)
class Divergence:
    """`beta`, for jsd alone, is the teacher's share of the mixture that both sides are compared with.

    The generalised Jensen-Shannon divergence beta * KL(t || m) + (1 - beta) * KL(s || m), m = beta * t + (1 - beta) * s
    is that of on-policy distillation (GKD, arXiv:2306.13649).

    Raises:
        ValueError: for an unknown kind, or a `beta` that is not between 0 and 1.
    """

    kind: DivergenceKind = DivergenceKind.FORWARD
    beta: float = 0.5

    def __post_init__(self) -> None:
        if self.kind not in tuple(DivergenceKind):
            raise ValueError(f"kind is {self.kind!r}: give one of {', '.join(DivergenceKind)}")
        if not 0 < self.beta < 1:
            raise ValueError(f"beta is {self.beta}: give a number between 0 and 1, or the kind forward or reverse")

    def of(self, teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
        """From log-probabilities [..., D], nats [...]; entries without probability on the left side add nothing.

        The sums are taken as they are: neither side has to sum to one.
        """
        if self.kind == DivergenceKind.FORWARD:
            return kl(teacher, student)
        if self.kind == DivergenceKind.REVERSE:
            return kl(student, teacher)
        mixture = logaddexp(teacher + math.log(self.beta), student + math.log1p(-self.beta))
        return self.beta * kl(teacher, mixture) + (1 - self.beta) * kl(student, mixture)


def kl(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Sum of exp(left) * (left - right) over the last dimension of log-probabilities.

    What has no probability in the type of `left` adds nothing, however impossible it is on the right side.
    """
    probs = left.exp()
    present = probs > 0
    difference = torch.where(present, left, 0.0) - torch.where(present, right, 0.0)
    return (probs * difference).sum(dim=-1)
