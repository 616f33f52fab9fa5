"""Aligning whole batches of windows: one call into compiled code, which releases the GIL."""

import numpy as np

from xtoken_core.align.chunks import AlignmentBatch
from xtoken_core.align.compiled import Chunks, Rows, Table, align_rows
from xtoken_core.ragged import Ragged, offsets_of
from xtoken_core.roles import paired_roles
from xtoken_core.vocabulary import Vocabulary


def align_batch(student_ids: Ragged, teacher_ids: Ragged, student: Vocabulary, teacher: Vocabulary) -> AlignmentBatch:
    """Aligns row by row two tokenizations of the same windows, special tokens included.

    Where both rows spell the same bytes, chunks are the finest partition at common byte boundaries, all exact but for
    special tokens without a counterpart. Elsewhere see `align_differing`. Raises ValueError where the two batches do
    not have the same number of rows, or hold an id that its vocabulary does not have.
    """
    if len(student_ids) != len(teacher_ids):
        raise ValueError(f"{len(student_ids)} student rows but {len(teacher_ids)} teacher rows: give both per window.")
    student_ids = _checked(student_ids, student, "student")
    teacher_ids = _checked(teacher_ids, teacher, "teacher")
    student_roles, teacher_roles = paired_roles(student, teacher)
    rows, chunks = align_rows(
        student_ids.values,
        student_ids.offsets,
        teacher_ids.values,
        teacher_ids.offsets,
        Table.of(student, student_roles),
        Table.of(teacher, teacher_roles),
    )
    return _as_batch(rows, chunks)


def _checked(ids: Ragged, vocabulary: Vocabulary, side: str) -> Ragged:
    """A copy from offset zero, writable because compiled code is made anew for read-only arrays."""
    values = np.array(ids.values[ids.offsets[0] : ids.offsets[-1]], dtype=np.int32)
    lowest, highest = (values.min(), values.max()) if len(values) else (0, 0)
    if lowest < 0 or highest >= vocabulary.size:
        raise ValueError(
            f"{side} ids run from {lowest} to {highest}, but the vocabulary has 0 to {vocabulary.size - 1}. "
            "Align with the vocabulary of the tokenizer that made the ids."
        )
    return Ragged(values, ids.offsets - ids.offsets[0])


def _as_batch(rows: Rows, chunks: Chunks) -> AlignmentBatch:
    offsets = offsets_of(rows.n_chunks)
    return AlignmentBatch(
        student_chunk_start0=rows.student_start,
        teacher_chunk_start0=rows.teacher_start,
        student_chunk_ends=Ragged(chunks.student_ends[: offsets[-1]].copy(), offsets),
        teacher_chunk_ends=Ragged(chunks.teacher_ends[: offsets[-1]].copy(), offsets),
        chunk_exact=Ragged(chunks.exact[: offsets[-1]].copy(), offsets),
        chunk_kind=Ragged(chunks.kind[: offsets[-1]].copy(), offsets),
        n_chunks=rows.n_chunks,
        n_exact=rows.n_exact,
        n_bytes=rows.n_bytes,
        n_exact_bytes=rows.n_exact_bytes,
    )
