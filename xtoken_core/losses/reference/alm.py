"""alm: how probable each side finds the text of a chunk, whatever tokens it is cut into.

A chunk whose byte spans are equal has the probability P = exp(sum of log p of its tokens / tau) under each model. Both
see an event of two outcomes, this text or another:

    loss = sum over exact chunks of P_T log(P_T / P_S) + (1 - P_T) log((1 - P_T) / (1 - P_S))

Approximate Likelihood Matching (tokenkit, arXiv:2503.20083). There is no factor for the temperature.
"""

import math

import torch
from torch.nn import functional

from xtoken_core.losses.chunks import Chunks
from xtoken_core.losses.precision import logsumexp, upcast
from xtoken_core.losses.settings import LossSettings
from xtoken_core.losses.sums import LossSum, LossSums


def alm(
    student_logits: torch.Tensor,
    targets: torch.Tensor,
    chunks: Chunks,
    teacher_logprob: torch.Tensor,
    settings: LossSettings,
) -> LossSums:
    """See `losses.alm`."""
    rows, counted = chunks.student.row, (chunks.counted & chunks.exact)
    student = chunks.student.sum(target_logprob(upcast(student_logits[rows]), targets[rows]), len(chunks))
    teacher = chunks.teacher.sum(upcast(teacher_logprob[chunks.teacher.row]), len(chunks))
    nats = bernoulli_kl(teacher[counted] / settings.temperature, student[counted] / settings.temperature)
    return LossSums(LossSum(nats.sum(), counted.sum()), {})


def target_logprob(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """log p of `targets` [n] from `logits` [n, V], as the log-odds against all other tokens say it.

    log_softmax rounds a probability near one to exactly one (beyond 1 - 6e-8 in float32), where 1 - P has no logarithm.
    """
    target = targets.long()[:, None]
    others = logsumexp(logits.scatter(1, target, -torch.inf))
    return functional.logsigmoid(logits.gather(1, target)[:, 0] - others)


def bernoulli_kl(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """KL of two events with the log-probabilities `teacher` and `student` [n], nats [n]; the student's gets a gradient.

    A teacher's probability of exactly zero or one is legal, and the outcome that it excludes adds nothing.
    """
    student = student.clamp(max=-torch.finfo(student.dtype).tiny)
    possible, uncertain = teacher.exp() > 0, teacher < 0
    happens = teacher.exp() * (teacher.where(possible, 0.0) - student.where(possible, 0.0))
    teacher_not, student_not = log1mexp(teacher.where(uncertain, -1.0)), log1mexp(student)
    happens_not = -teacher.expm1() * (teacher_not - student_not)
    return happens + happens_not.where(uncertain, 0.0)


def log1mexp(x: torch.Tensor) -> torch.Tensor:
    """log(1 - exp(x)) for x below zero, in value and gradient precise near zero and far from it."""
    near = x > -math.log(2)
    return torch.where(near, (-x.where(near, -1.0).expm1()).log(), (-x.where(~near, -1.0).exp()).log1p())
