"""Losses at single positions, each in two forms: `impl` is "fast" or "reference" (see `form`).

`student` is the logits [N, Vs] of the compared positions or a `Head` that makes them; it gets the gradient. All sums
are over these N positions. The formula and source of each loss stand in its reference form.

Raises ValueError for shapes, devices or ids that do not fit, nan or +inf, or an unknown `impl`; it says which.
"""

import torch

from xtoken_core.losses import reference
from xtoken_core.losses.cell_batch import CellBatch
from xtoken_core.losses.checks import (
    require_columns,
    require_different,
    require_ids,
    require_logits,
    require_targets,
    require_together,
)
from xtoken_core.losses.fast.ce import CrossEntropy
from xtoken_core.losses.fast.direct_kl import DirectKL, DirectKLTopK
from xtoken_core.losses.fast.position_term import Positions
from xtoken_core.losses.fast.prefix_kl import PrefixKL
from xtoken_core.losses.fast.uld import ULD, ULDTopK
from xtoken_core.losses.form import Impl, Student, run, shape_of
from xtoken_core.losses.settings import KLSettings, LossSettings
from xtoken_core.losses.sums import LossSums
from xtoken_core.losses.topk import TopK


def cross_entropy(student: Student, targets: torch.Tensor, impl: Impl = "fast") -> LossSums:
    """Nats of `targets` int [N], the token that follows each position; TOP1_AGREEMENT: it was the likeliest one."""
    logits = shape_of(student)
    require_together(student_logits=logits, targets=targets)
    require_targets(targets, logits.shape[1])
    return run(
        impl,
        student,
        {},
        lambda values: reference.cross_entropy(values, targets),
        lambda: CrossEntropy(len(targets)),
        targets.long(),
    )


def prefix_kl(student: Student, cells: CellBatch, settings: KLSettings, impl: Impl = "fast") -> LossSums:
    """Divergence over cells of tokens that begin alike; TOP1_AGREEMENT of cells, TAIL_MASS: the teacher's in the rest.

    student: [N, columns]; columns beyond the ids of `cells` are a padded head's and have no part, ids beyond the
        columns have no probability.

    Infinite where no token of a cell that the teacher gives probability to has a logit above -inf.
    """
    require_together(student_logits=shape_of(student), teacher_logmass=cells.teacher_logmass)
    return run(
        impl,
        student,
        {"teacher_logmass": cells.teacher_logmass},
        lambda values: reference.prefix_kl(values, cells, settings),
        lambda: PrefixKL(_all(len(cells), cells.teacher_logmass), cells, settings),
    )


def direct_kl(
    student: Student,
    teacher_logits: torch.Tensor,
    columns: torch.Tensor | None,
    settings: KLSettings,
    impl: Impl = "fast",
) -> LossSums:
    """Divergence token by token of two models of one vocabulary; TOP1_AGREEMENT among the compared ids.

    teacher_logits: [N, at least Vs]; columns beyond the student's are a padded head's and have no part.
    columns: int64 [K], different ids to compare; None for all.
    """
    logits = shape_of(student)
    size = logits.shape[1]
    require_logits("teacher_logits", teacher_logits)
    require_together(student_logits=logits, teacher_logits=teacher_logits)
    require_columns("teacher_logits", teacher_logits, size, "the student takes")
    if columns is not None:
        require_ids("columns", columns, size, "student_logits")
        require_different("columns", columns)
    return run(
        impl,
        student,
        {"teacher_logits": teacher_logits[:, :size]},
        lambda values: reference.direct_kl(values, teacher_logits, columns, settings),
        lambda: DirectKL(_all(len(logits), logits), teacher_logits, columns, size, settings),
    )


def direct_kl_top_k(student: Student, record: TopK, settings: KLSettings, impl: Impl = "fast") -> LossSums:
    """The same from records; TOP1_AGREEMENT of stored tokens and the rest, TAIL_MASS: the teacher's in the rest.

    Where the record stores all of the student's tokens, the student could never match a rest that rounding left to the
    teacher: it is left out.
    """
    logits = shape_of(student)
    require_together(student_logits=logits, topk_ids=record.ids, topk_logprob=record.logprob)
    require_ids("topk_ids", record.ids, logits.shape[1], "student_logits")
    return run(
        impl,
        student,
        {"topk_logprob": record.logmass},
        lambda values: reference.direct_kl_top_k(values, record, settings),
        lambda: DirectKLTopK(_all(len(logits), logits), record, logits.shape[1], settings),
    )


def uld(student: Student, teacher_logits: torch.Tensor, settings: LossSettings, impl: Impl = "fast") -> LossSums:
    """L1 distance of the probabilities of equal rank, at positions where both sides have read the same bytes.

    teacher_logits: [N, Vt], without a padded head's columns.
    """
    logits = shape_of(student)
    require_logits("teacher_logits", teacher_logits)
    require_together(student_logits=logits, teacher_logits=teacher_logits)
    return run(
        impl,
        student,
        {"teacher_logits": teacher_logits},
        lambda values: reference.uld(values, teacher_logits, settings),
        lambda: ULD(_all(len(logits), logits), teacher_logits, settings),
    )


def uld_top_k(student: Student, record: TopK, settings: LossSettings, impl: Impl = "fast") -> LossSums:
    """The ranks that a record stores: at temperature 1 a lower bound of `uld`, and equal to it if all are stored.

    Both sides' masses, k ranks and one for the rest, are taken to the power 1 / tau and normalised again; the rest is
    not compared.
    """
    logits = shape_of(student)
    require_together(student_logits=logits, topk_logprob=record.logprob)
    return run(
        impl,
        student,
        {"topk_logprob": record.logmass},
        lambda values: reference.uld_top_k(values, record, settings),
        lambda: ULDTopK(_all(len(logits), logits), record, logits.shape[1], settings),
    )


def _all(rows: int, like: torch.Tensor) -> Positions:
    """All rows of the student's output, on the device of `like`."""
    return Positions.of(torch.arange(rows)).to(like.device)
