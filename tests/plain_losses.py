"""The loss of a step written down plainly: the reference form of each term, from logits of the whole batch."""

from collections.abc import Sequence
from pathlib import Path

import torch
from tiny_runs import chunks_of

from trainer.batches import MicroBatch
from trainer.job import TrainingSettings
from trainer.teachers import TeacherData
from trainer.terms import Ready
from trainer.terms.builders import Pair, ReadyDirectKL, ReadyPKL
from trainer.terms.plan import Whole
from xtoken_core.losses import reference
from xtoken_core.losses.columns import column_maxima, likeliest
from xtoken_core.losses.common import common_tokens
from xtoken_core.losses.fast.alm import ALM
from xtoken_core.losses.fast.direct_kl import DirectKLTopK
from xtoken_core.losses.fast.gold import Gold
from xtoken_core.losses.fast.prefix_kl import PrefixKL
from xtoken_core.losses.fast.uld import ULD, ULDTopK
from xtoken_core.losses.settings import GoldSettings
from xtoken_core.losses.sums import LossSums


def plain_loss(
    logits: torch.Tensor,
    batch: MicroBatch,
    teachers: Sequence[TeacherData],
    kd_weights: Sequence[float],
    settings: TrainingSettings,
) -> torch.Tensor:
    """The loss of one batch from plain logits [B, S, V]: means over predictions, boundaries and chunks."""
    flat = logits[batch.rows.row, batch.rows.position]
    loss = settings.ce_weight * reference.cross_entropy(flat, batch.predictions.targets).loss.mean
    for weight, teacher, ready in zip(kd_weights, teachers, batch.terms, strict=True):
        loss = loss + weight * plain_sums(flat, batch, teacher, ready, settings).loss.mean
    return loss


def plain_sums(
    flat: torch.Tensor, batch: MicroBatch, teacher: TeacherData, ready: Ready | None, settings: TrainingSettings
) -> LossSums:
    """The reference form of a teacher's loss; flat: [N, V]."""
    pair = Pair(teacher, teacher.student_vocabulary, Path("unused"), settings)
    if isinstance(ready, ReadyPKL):
        chunks, columns = chunks_of(ready.table), _columns(teacher, ready.teacher_logits)
        projection = teacher.projection_tensors(flat.shape[1])
        return reference.p_kl(flat, ready.teacher_logits, chunks, projection, columns, pair.kl)
    if isinstance(ready, ReadyDirectKL):
        compared = None if teacher.inputs.vocab_topk is None else _columns(teacher, ready.teacher_logits)
        return reference.direct_kl(flat[ready.positions.row], ready.teacher_logits, compared, pair.kl)
    assert isinstance(ready, Whole)
    return _of_whole(flat, batch, pair, ready)


def _of_whole(flat: torch.Tensor, batch: MicroBatch, pair: Pair, ready: Whole) -> LossSums:
    match ready.loss:
        case PrefixKL() as term:
            return reference.prefix_kl(flat[term.positions.row], term.cells, pair.kl)
        case DirectKLTopK() as term:
            return reference.direct_kl_top_k(flat[term.positions.row], term.record, pair.kl)
        case ULD() as term:
            return reference.uld(flat[term.positions.row], term.teacher_logits, pair.plain)
        case ULDTopK() as term:
            return reference.uld_top_k(flat[term.positions.row], term.record, pair.plain)
        case ALM() as term:
            chunks = chunks_of(term.table)
            return reference.alm(flat, batch.predictions.targets, chunks, term.teacher_logprob, pair.plain)
        case Gold() as term:
            settings = GoldSettings(pair.kl.temperature, pair.kl.divergence, pair.teacher.inputs.uncommon_columns)
            projection, threshold = pair.teacher.projection_tensors(flat.shape[1]), pair.teacher.inputs.common_threshold
            common = common_tokens(projection, flat.shape[1], pair.teacher.vocabulary.size, threshold)
            return reference.gold(flat, term.teacher_logits, chunks_of(term.table), common, settings)
    raise AssertionError(f"there is no plain form of {ready.loss}")


def _columns(teacher: TeacherData, logits: torch.Tensor) -> torch.Tensor:
    compared = teacher.inputs.compared_columns
    assert compared is not None
    return likeliest(column_maxima(logits, teacher.vocabulary.size), min(compared, teacher.vocabulary.size))
