"""The places in an alignment where a teacher's record says something about the student's next token.

Beside the boundaries these are the ends of student tokens inside of a chunk: the teacher's record at its last boundary
also says how the bytes that were read since may go on.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

from xtoken_core.align.boundaries import require_mask
from xtoken_core.align.chunks import AlignmentBatch, ChunkKind
from xtoken_core.ragged import Ragged


@dataclass(frozen=True, eq=False)
class Places:
    """One entry per place, in the order of rows and student tokens; int64 [places] each.

    row: of the alignment. student_token, teacher_token: the tokens that come next, in their rows. The teacher's next
        token is the one that begins at the teacher's last boundary which is not beyond the place.
    read: bytes that the student has read since that boundary, 0 at common boundaries.
    """

    row: np.ndarray
    student_token: np.ndarray
    teacher_token: np.ndarray
    read: np.ndarray


class _Sides(NamedTuple):
    """An alignment, for compiled code; as in `AlignmentBatch`, `student_bytes` and `teacher_bytes` by token."""

    student_start: np.ndarray
    teacher_start: np.ndarray
    offsets: np.ndarray
    student_ends: np.ndarray
    teacher_ends: np.ndarray
    exact: np.ndarray
    is_text: np.ndarray
    is_template: np.ndarray
    student_bytes: np.ndarray
    student_offsets: np.ndarray
    teacher_bytes: np.ndarray
    teacher_offsets: np.ndarray


def prefix_places(
    batch: AlignmentBatch, loss_mask: Ragged, student_bytes: Ragged, teacher_bytes: Ragged, dummy_prefix: bool
) -> Places:
    """The boundaries of `prefix_boundaries`, and the ends of student tokens inside of exact chunks of text behind them.

    loss_mask: a bool for each student token. student_bytes, teacher_bytes: the length of each token of either side.
    dummy_prefix: as in `prefix_boundaries`.

    Raises ValueError where `loss_mask` does not have one value per student token.
    """
    require_mask(batch, loss_mask)
    sides = _Sides(
        np.array(batch.student_chunk_start0),
        np.array(batch.teacher_chunk_start0),
        np.array(batch.student_chunk_ends.offsets),
        np.array(batch.student_chunk_ends.values),
        np.array(batch.teacher_chunk_ends.values),
        np.array(batch.chunk_exact.values, dtype=np.bool_),
        np.array(batch.chunk_kind.values == ChunkKind.TEXT),
        np.array(batch.chunk_kind.values == ChunkKind.TEMPLATE),
        np.array(student_bytes.values),
        np.array(student_bytes.offsets),
        np.array(teacher_bytes.values),
        np.array(teacher_bytes.offsets),
    )
    mask = np.array(loss_mask.values, dtype=np.bool_)
    return Places(*_find(sides, mask, np.array(loss_mask.offsets), dummy_prefix))


@njit(nogil=True, cache=True)
def _find(sides: _Sides, mask: np.ndarray, mask_offsets: np.ndarray, dummy_prefix: bool) -> np.ndarray:
    """The four arrays of `Places`, int64 [4, places]."""
    found = np.empty((4, len(mask)), dtype=np.int64)
    n = 0
    for row in range(len(sides.student_start)):
        student, teacher = sides.student_start[row], sides.teacher_start[row]
        text_read = False
        for chunk in range(sides.offsets[row], sides.offsets[row + 1]):
            comparable = student > 0 and teacher > 0 and (text_read or not dummy_prefix)
            through = comparable and sides.exact[chunk] and sides.is_text[chunk]
            last = sides.student_ends[chunk] if through else min(student + 1, sides.student_ends[chunk])
            read = 0
            while comparable and student < last:
                if mask[mask_offsets[row] + student]:
                    found[0, n], found[1, n], found[2, n], found[3, n] = row, student, teacher, read
                    n += 1
                read += sides.student_bytes[sides.student_offsets[row] + student]
                student += 1
                while teacher < sides.teacher_ends[chunk] and (
                    read >= sides.teacher_bytes[sides.teacher_offsets[row] + teacher]
                ):
                    read -= sides.teacher_bytes[sides.teacher_offsets[row] + teacher]
                    teacher += 1
            if not sides.exact[chunk] and not sides.is_template[chunk]:
                break
            text_read |= sides.is_text[chunk]
            student, teacher = sides.student_ends[chunk], sides.teacher_ends[chunk]
    return found[:, :n].copy()
