"""uld: probabilities of equal rank, whatever the tokens are.

With both sides' probabilities p = softmax(z / tau) sorted downwards and the shorter list filled up with zeros,

    loss = tau^2 * sum over positions of sum over ranks of |p_S - p_T|

Universal Logit Distillation (arXiv:2402.12030), which has it at temperature 1; tau^2 is as in the other losses.
"""

import torch
from torch.nn import functional

from xtoken_core.losses.measures import total_of
from xtoken_core.losses.precision import log_softmax, logsumexp, upcast
from xtoken_core.losses.settings import LossSettings
from xtoken_core.losses.sums import LossSum, LossSums
from xtoken_core.losses.topk import TopK


def uld(student_logits: torch.Tensor, teacher_logits: torch.Tensor, settings: LossSettings) -> LossSums:
    """See `losses.uld`."""
    student, teacher = (_ranked(logits, settings.temperature) for logits in (student_logits, teacher_logits))
    return _ranked_l1(student, teacher, settings)


def uld_top_k(student_logits: torch.Tensor, record: TopK, settings: LossSettings) -> LossSums:
    """See `losses.uld_top_k`."""
    k = record.logprob.shape[1]
    ranked = upcast(student_logits).sort(dim=-1, descending=True).values
    masses = [ranked[:, :k], logsumexp(ranked[:, k:])[:, None]] if k < ranked.shape[1] else [ranked]
    student = (torch.cat(masses, dim=1) / settings.temperature).softmax(dim=-1)[:, :k]
    teacher = (upcast(record.logmass) / settings.temperature).softmax(dim=-1)[:, :k]
    return _ranked_l1(student, teacher, settings)


def _ranked(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """[N, V], probabilities by falling size."""
    return log_softmax(upcast(logits) / temperature).exp().sort(dim=-1, descending=True).values


def _ranked_l1(student: torch.Tensor, teacher: torch.Tensor, settings: LossSettings) -> LossSums:
    ranks = max(student.shape[1], teacher.shape[1])
    student, teacher = (functional.pad(side, (0, ranks - side.shape[1])) for side in (student, teacher))
    l1 = (student - teacher).abs().sum(dim=-1)
    return LossSums(LossSum(l1.sum() * settings.temperature**2, total_of(l1).count), {})
