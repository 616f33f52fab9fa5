"""Gold and H-KL: tokens that both vocabularies have are compared one by one, the others by rank.

Each side's log-probabilities log_softmax(z / tau) over its whole vocabulary are averaged over a chunk's positions. Then

    loss = tau^2 * sum over chunks of [ KL over the common tokens + L1 distance of the others ]

The common part is not normalised again. Of the others, each side's `uncommon_topk` largest exp(mean log p) are sorted
downwards, and the longer list is cut to the shorter. H-KL is the same with another choice of common tokens. This is
the published cross-tokenizer loss of NeMo-RL (x_token).
"""

import torch

from xtoken_core.losses.chunks import ChunkRows, Chunks
from xtoken_core.losses.common import CommonTokens
from xtoken_core.losses.measures import top1_agreement, total_of
from xtoken_core.losses.precision import log_softmax, upcast
from xtoken_core.losses.settings import GoldSettings
from xtoken_core.losses.sums import LossSum, LossSums, Measure


def gold(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    chunks: Chunks,
    common: CommonTokens,
    settings: GoldSettings,
) -> LossSums:
    """See `losses.gold`."""
    counted, tau = chunks.counted, settings.temperature
    student = _chunk_log_probs(student_logits, chunks.student, len(chunks), tau)[counted]
    teacher = _chunk_log_probs(teacher_logits[:, : common.teacher_size], chunks.teacher, len(chunks), tau)[counted]
    common_student, common_teacher = student[:, common.student_ids], teacher[:, common.teacher_ids]
    kl = settings.divergence.of(common_teacher, common_student)
    l1 = _ranked_l1(student[:, common.student_rest], teacher[:, common.teacher_rest], settings.uncommon_topk)
    measures = {
        Measure.TOP1_AGREEMENT: top1_agreement(common_teacher, common_student),
        Measure.COMMON_KL: total_of(kl),
        Measure.UNCOMMON_L1: total_of(l1),
    }
    return LossSums(LossSum((kl + l1).sum() * tau**2, counted.sum()), measures)


def _chunk_log_probs(logits: torch.Tensor, rows: ChunkRows, chunks: int, temperature: float) -> torch.Tensor:
    """[C, V], mean log-probabilities."""
    return rows.mean(log_softmax(upcast(logits[rows.row]) / temperature), chunks)


def _ranked_l1(student: torch.Tensor, teacher: torch.Tensor, topk: int) -> torch.Tensor:
    """[C]: the sum of |difference| of the probabilities of equal rank, from log-probabilities [C, Us] and [C, Ut]."""
    ranks = min(topk, student.shape[1], teacher.shape[1])
    return (student.topk(ranks).values.exp() - teacher.topk(ranks).values.exp()).abs().sum(dim=-1)
