"""The places in an alignment where two next-token distributions continue the same text.

Boundary c of a window is the point before its chunk c. While every chunk before it is exact, both models have read the
same bytes there, and what each predicts next may be compared, whether or not chunk c itself is exact. Chunks of
templates need not be exact: each model has its own template, and behind it both have read the same contents.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

from xtoken_core.align.chunks import AlignmentBatch, ChunkKind
from xtoken_core.ragged import Ragged


@dataclass(frozen=True, eq=False)
class Boundaries:
    """One entry per boundary, in the order of rows and chunks; int32 [boundaries] each.

    The positions are those of the last token read, whose logits predict what follows.
    """

    row: np.ndarray
    student_position: np.ndarray
    teacher_position: np.ndarray


class Columns(NamedTuple):
    """The parts of an alignment that say where its chunks are, for compiled code."""

    student_start: np.ndarray  # int32 [rows]
    teacher_start: np.ndarray
    offsets: np.ndarray  # int64 [rows + 1], of the chunks
    student_ends: np.ndarray  # int32 [chunks]
    teacher_ends: np.ndarray
    exact: np.ndarray  # bool [chunks]
    is_text: np.ndarray  # bool [chunks]
    is_template: np.ndarray  # bool [chunks]


def prefix_boundaries(batch: AlignmentBatch, loss_mask: Ragged, dummy_prefix: bool) -> Boundaries:
    """The boundaries of `batch` where both models have read the same text and the next student token counts.

    Both must have read at least one token, of whatever kind, to predict from. `loss_mask` holds a bool per student
    token. `dummy_prefix` says that a tokenizer of the pair puts a space in front of the text: then boundaries before
    the first text are left out, because there one side predicts that space and the other does not.

    Raises ValueError where `loss_mask` does not have one value per student token.
    """
    require_mask(batch, loss_mask)
    mask = np.array(loss_mask.values, dtype=np.bool_)
    found = _find(columns_of(batch), mask, np.array(loss_mask.offsets), dummy_prefix)
    return Boundaries(found[0].copy(), found[1].copy(), found[2].copy())


def columns_of(batch: AlignmentBatch) -> Columns:
    """Copies, because compiled code is made anew for read-only arrays."""
    return Columns(
        np.array(batch.student_chunk_start0),
        np.array(batch.teacher_chunk_start0),
        np.array(batch.student_chunk_ends.offsets),
        np.array(batch.student_chunk_ends.values),
        np.array(batch.teacher_chunk_ends.values),
        np.array(batch.chunk_exact.values, dtype=np.bool_),
        np.array(batch.chunk_kind.values == ChunkKind.TEXT),
        np.array(batch.chunk_kind.values == ChunkKind.TEMPLATE),
    )


def require_mask(batch: AlignmentBatch, loss_mask: Ragged) -> None:
    """ValueError unless `loss_mask` has one value for each student token of `batch`."""
    ends = batch.student_chunk_ends
    n_tokens = np.array(batch.student_chunk_start0, dtype=np.int64)
    filled = np.flatnonzero(ends.lengths)
    n_tokens[filled] = ends.values[ends.offsets[filled + 1] - 1]
    if len(loss_mask) != len(batch):
        raise ValueError(f"loss mask of {len(loss_mask)} rows for an alignment of {len(batch)} rows: give one each.")
    wrong = np.flatnonzero(loss_mask.lengths != n_tokens)
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(
            f"loss mask of row {row} has {loss_mask.lengths[row]} values for {n_tokens[row]} student tokens. "
            "Give the mask that belongs to the aligned ids."
        )


@njit(nogil=True, cache=True)
def _find(columns: Columns, mask: np.ndarray, mask_offsets: np.ndarray, dummy_prefix: bool) -> np.ndarray:
    """Row, student position and teacher position, int32 [3, boundaries]."""
    found = np.empty((3, len(columns.exact)), dtype=np.int32)
    n = 0
    for row in range(len(columns.student_start)):
        student, teacher = columns.student_start[row], columns.teacher_start[row]
        text_read = False
        for chunk in range(columns.offsets[row], columns.offsets[row + 1]):
            comparable = student > 0 and teacher > 0 and (text_read or not dummy_prefix)
            has_next = columns.student_ends[chunk] > student
            if comparable and has_next and mask[mask_offsets[row] + student]:
                found[0, n], found[1, n], found[2, n] = row, student - 1, teacher - 1
                n += 1
            if not columns.exact[chunk] and not columns.is_template[chunk]:
                break
            text_read |= columns.is_text[chunk]
            student, teacher = columns.student_ends[chunk], columns.teacher_ends[chunk]
    return found[:, :n]
