"""direct_kl: divergence of teacher and student token by token, for two models of one vocabulary.

Over the whole vocabulary or over some of its ids (columns), both sides normalised within them:

    loss = tau^2 * sum over positions of KL(softmax(z_T[K] / tau) || softmax(z_S[K] / tau))

The form with columns is the published loss of NeMo-RL (x_token) for a teacher of the student's tokenizer. From a
record, the cells are its k tokens and the rest: both sides' masses to the power 1 / tau and normalised again. At
temperature 1 that is never above the divergence over the whole vocabulary, of which it puts some tokens together.
"""

from dataclasses import replace

import torch

from xtoken_core.losses.measures import top1_agreement, total_of
from xtoken_core.losses.precision import log_softmax, upcast
from xtoken_core.losses.reference.prefix_kl import divergence_of_cells
from xtoken_core.losses.settings import KLSettings
from xtoken_core.losses.sums import LossSum, LossSums, Measure
from xtoken_core.losses.topk import TopK


def direct_kl(
    student_logits: torch.Tensor, teacher_logits: torch.Tensor, columns: torch.Tensor | None, settings: KLSettings
) -> LossSums:
    """See `losses.direct_kl`."""
    student, teacher = upcast(student_logits), upcast(teacher_logits[:, : student_logits.shape[1]])
    if columns is not None:
        student, teacher = student[:, columns], teacher[:, columns]
    student = log_softmax(student / settings.temperature)
    teacher = log_softmax(teacher / settings.temperature)
    nats = settings.divergence.of(teacher, student)
    loss = LossSum(nats.sum() * settings.temperature**2, total_of(nats).count)
    return LossSums(loss, {Measure.TOP1_AGREEMENT: top1_agreement(teacher, student)})


def direct_kl_top_k(student_logits: torch.Tensor, record: TopK, settings: KLSettings) -> LossSums:
    """See `losses.direct_kl_top_k`."""
    rows, k = record.ids.shape
    slots = torch.arange(k, device=record.ids.device).expand(rows, k)
    cell = slots.new_full(student_logits.shape, k).scatter(1, record.ids.long(), slots)
    logmass = record.logmass
    if k == student_logits.shape[1]:
        logmass[:, k] = -torch.inf
    sums = divergence_of_cells(student_logits, logmass, cell, settings)
    return replace(sums, loss=LossSum(sums.loss.total * settings.temperature**2, sums.loss.count))
