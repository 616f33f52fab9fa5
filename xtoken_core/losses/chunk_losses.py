"""Losses over chunks, each in two forms: `impl` is "fast" or "reference" (see `form`).

`student` is the logits [N, Vs] of all positions that the chunks were made of or a `Head` that makes them; it gets the
gradient. The formula and source of each loss stand in its reference form.

Raises ValueError for shapes, devices or ids that do not fit, nan or +inf, or an unknown `impl`; it says which.
"""

import torch

from xtoken_core.losses import reference
from xtoken_core.losses.checks import (
    require_chunk_rows,
    require_chunks,
    require_common,
    require_different,
    require_ids,
    require_same_device,
    require_student_chunks,
    require_student_size,
    require_targets,
    require_together,
)
from xtoken_core.losses.chunks import Chunks
from xtoken_core.losses.common import CommonTokens, ProjectionTensors
from xtoken_core.losses.fast.alm import ALM
from xtoken_core.losses.fast.chunk_table import ChunkTable
from xtoken_core.losses.fast.gold import Gold
from xtoken_core.losses.fast.p_kl import PKL, ColumnEntries
from xtoken_core.losses.form import Impl, Student, run, shape_of
from xtoken_core.losses.settings import GoldSettings, KLSettings, LossSettings
from xtoken_core.losses.sums import LossSums


def p_kl(
    student: Student,
    teacher_logits: torch.Tensor,
    chunks: Chunks,
    projection: ProjectionTensors,
    columns: torch.Tensor,
    settings: KLSettings,
    impl: Impl = "fast",
) -> LossSums:
    """Summed over the counted chunks; TOP1_AGREEMENT over the usable ones, those of dropped samples included.

    teacher_logits: [T, columns of the head]; only `columns` are compared.
    projection: a row for each of the Vs columns; its weights get a gradient too.
    columns: int64 [K], the different teacher ids to compare (`likeliest`).
    """
    logits = shape_of(student)
    require_chunks(logits, teacher_logits, chunks)
    require_student_size(logits, len(projection.indices), "the rows of the projection")
    projection.require_fits(logits.shape[1], teacher_logits.shape[1])
    require_ids("columns", columns, teacher_logits.shape[1], "teacher_logits")
    require_different("columns", columns)
    require_same_device(student_logits=logits, columns=columns, projection_indices=projection.indices)
    return run(
        impl,
        student,
        {"teacher_logits": teacher_logits},
        lambda values: reference.p_kl(values, teacher_logits, chunks, projection, columns, settings),
        lambda: PKL(
            _table(chunks), teacher_logits, ColumnEntries.of(projection, columns, teacher_logits.shape[1]), settings
        ),
    )


def gold(
    student: Student,
    teacher_logits: torch.Tensor,
    chunks: Chunks,
    common: CommonTokens,
    settings: GoldSettings,
    impl: Impl = "fast",
) -> LossSums:
    """Summed over the counted chunks; so are TOP1_AGREEMENT (of common tokens), COMMON_KL, UNCOMMON_L1.

    teacher_logits: [T, columns]; columns beyond the teacher ids of `common` are a padded head's and have no part.
    common: by `common_tokens`, whose rule makes it gold (threshold None) or h_kl (0.6).
    """
    logits = shape_of(student)
    require_chunks(logits, teacher_logits, chunks)
    require_common(common, logits, teacher_logits)
    return run(
        impl,
        student,
        {"teacher_logits": teacher_logits[:, : common.teacher_size]},
        lambda values: reference.gold(values, teacher_logits, chunks, common, settings),
        lambda: Gold(_table(chunks), teacher_logits, common, settings),
    )


def alm(
    student: Student,
    targets: torch.Tensor,
    chunks: Chunks,
    teacher_logprob: torch.Tensor,
    settings: LossSettings,
    impl: Impl = "fast",
) -> LossSums:
    """Summed over the counted chunks that are exact; the others have no part.

    Its gradient is finite wherever the logits are.

    targets: int [N], the token that follows each row; looked at only in rows of chunks.
    teacher_logprob: [T], log-probability of the token that follows each of the teacher's rows; 0 and -inf are legal.
    """
    logits = shape_of(student)
    require_student_chunks(logits, chunks)
    require_together(student_logits=logits, targets=targets)
    require_chunk_rows("teacher_logprob", teacher_logprob, chunks.teacher)
    require_targets(targets[chunks.student.row], logits.shape[1])
    return run(
        impl,
        student,
        {"teacher_logprob": teacher_logprob},
        lambda values: reference.alm(values, targets, chunks, teacher_logprob, settings),
        lambda: ALM(_table(chunks.only_exact()), teacher_logprob, settings),
        targets.long(),
    )


def _table(chunks: Chunks) -> ChunkTable:
    return ChunkTable.of(chunks.to(torch.device("cpu"))).to(chunks.counted.device)
