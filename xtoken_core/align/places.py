"""The places in an alignment where a teacher's record says something about the student's next token.

Beside the boundaries these are the ends of student tokens inside of a chunk: the teacher's record at its last boundary
also says how the bytes that were read since may go on.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

from xtoken_core.align.boundaries import Columns, columns_of, require_mask
from xtoken_core.align.chunks import AlignmentBatch
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


class _Rows(NamedTuple):
    """A `Ragged` for compiled code."""

    values: np.ndarray
    offsets: np.ndarray


def prefix_places(
    batch: AlignmentBatch, loss_mask: Ragged, student_bytes: Ragged, teacher_bytes: Ragged, dummy_prefix: bool
) -> Places:
    """The boundaries of `prefix_boundaries`, and the ends of student tokens inside of exact chunks of text behind them.

    loss_mask: a bool for each student token. student_bytes, teacher_bytes: the length of each token of either side.
    dummy_prefix: as in `prefix_boundaries`.

    Raises ValueError where `loss_mask` does not have one value per student token.
    """
    require_mask(batch, loss_mask)
    mask = _Rows(np.array(loss_mask.values, dtype=np.bool_), np.array(loss_mask.offsets))
    ours = _Rows(np.array(student_bytes.values), np.array(student_bytes.offsets))
    theirs = _Rows(np.array(teacher_bytes.values), np.array(teacher_bytes.offsets))
    return Places(*_find(columns_of(batch), ours, theirs, mask, dummy_prefix))


@njit(nogil=True, cache=True)
def _find(columns: Columns, student_bytes: _Rows, teacher_bytes: _Rows, mask: _Rows, dummy_prefix: bool) -> np.ndarray:
    """The four arrays of `Places`, int64 [4, places]."""
    found = np.empty((4, len(mask.values)), dtype=np.int64)
    n = 0
    for row in range(len(columns.student_start)):
        student, teacher = columns.student_start[row], columns.teacher_start[row]
        text_read = False
        for chunk in range(columns.offsets[row], columns.offsets[row + 1]):
            comparable = student > 0 and teacher > 0 and (text_read or not dummy_prefix)
            through = comparable and columns.exact[chunk] and columns.is_text[chunk]
            last = columns.student_ends[chunk] if through else min(student + 1, columns.student_ends[chunk])
            read = 0
            while comparable and student < last:
                if mask.values[mask.offsets[row] + student]:
                    found[0, n], found[1, n], found[2, n], found[3, n] = row, student, teacher, read
                    n += 1
                read += student_bytes.values[student_bytes.offsets[row] + student]
                student += 1
                while teacher < columns.teacher_ends[chunk] and (
                    read >= teacher_bytes.values[teacher_bytes.offsets[row] + teacher]
                ):
                    read -= teacher_bytes.values[teacher_bytes.offsets[row] + teacher]
                    teacher += 1
            if not columns.exact[chunk] and not columns.is_template[chunk]:
                break
            text_read |= columns.is_text[chunk]
            student, teacher = columns.student_ends[chunk], columns.teacher_ends[chunk]
    return found[:, :n].copy()
