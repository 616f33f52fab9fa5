"""The chunks of a micro-batch's alignments, as the losses take them.

Student rows are predictions, teacher rows are the teacher's tokens, window after window.
"""

from dataclasses import dataclass

import numpy as np
import torch

from trainer.teachers import TeacherRows
from trainer.terms.predictions import Predictions
from xtoken_core.align import AlignmentBatch
from xtoken_core.losses.chunks import ChunkRows, Chunks
from xtoken_core.ragged import Ragged


@dataclass(frozen=True, eq=False)
class TextChunks:
    """The chunks of some windows, window after window; all [chunks].

    student_start, student_end, teacher_start, teacher_end: int64, the tokens of each chunk, counted within its window.
    row: int64, the window of each chunk. valid: bool, tokens on both sides, those of the student all in the loss.
    exact: bool, the two spans of bytes are equal.
    """

    student_start: np.ndarray
    student_end: np.ndarray
    teacher_start: np.ndarray
    teacher_end: np.ndarray
    row: np.ndarray
    valid: np.ndarray
    exact: np.ndarray

    @classmethod
    def of(cls, alignment: AlignmentBatch, loss_mask: Ragged) -> "TextChunks":
        """The chunks of `alignment`; `loss_mask` has a bool for each student token."""
        student_end, teacher_end = (
            np.array(ends.values, dtype=np.int64)
            for ends in (alignment.student_chunk_ends, alignment.teacher_chunk_ends)
        )
        student_start = _starts(alignment.student_chunk_start0, alignment.student_chunk_ends)
        teacher_start = _starts(alignment.teacher_chunk_start0, alignment.teacher_chunk_ends)
        row = np.repeat(np.arange(len(alignment)), alignment.student_chunk_ends.lengths)
        counted = np.concatenate([[0], np.cumsum(loss_mask.values)])
        first = loss_mask.offsets[:-1][row]
        all_count = counted[first + student_end] - counted[first + student_start] == student_end - student_start
        valid = all_count & (student_end > student_start) & (teacher_end > teacher_start)
        exact = np.array(alignment.chunk_exact.values, dtype=bool)
        return cls(student_start, student_end, teacher_start, teacher_end, row, valid, exact)

    @property
    def predicted(self) -> np.ndarray:
        """The valid chunks that some position predicts on both sides: not the first token of a window alone."""
        return self.valid & (self.student_end > 1) & (self.teacher_end > 1)

    @property
    def wholly_predicted(self) -> np.ndarray:
        """The valid chunks that neither side begins its window with."""
        return self.valid & (self.student_start > 0) & (self.teacher_start > 0)

    def chunks(self, kept: np.ndarray, rows: TeacherRows, predictions: Predictions) -> Chunks:
        """The chunks `kept`, bool [chunks], all of which count."""
        which = np.flatnonzero(kept)
        token, student_chunk = _predicted_tokens(self.student_start[which], self.student_end[which])
        student_row = predictions.index(rows.first_token[self.row[which][student_chunk]] + token - 1)
        token, teacher_chunk = _predicted_tokens(self.teacher_start[which], self.teacher_end[which])
        teacher_row = rows.teacher_offsets[self.row[which][teacher_chunk]] + token - 1
        counted = torch.ones(len(which), dtype=torch.bool)
        return Chunks(
            ChunkRows(student_row, torch.from_numpy(student_chunk)),
            ChunkRows(torch.from_numpy(teacher_row), torch.from_numpy(teacher_chunk)),
            usable=counted,
            counted=counted,
            exact=torch.from_numpy(self.exact[which]),
        )


def _starts(start0: np.ndarray, ends: Ragged) -> np.ndarray:
    """Where each chunk begins, int64 [chunks]: where the one before it ends."""
    starts = np.concatenate([[0], ends.values[:-1]]).astype(np.int64)
    filled = ends.lengths > 0
    starts[ends.offsets[:-1][filled]] = start0[filled]
    return starts


def _predicted_tokens(starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The tokens of each chunk that a position predicts, all but the first of a window, and the chunk of each."""
    starts = np.maximum(starts, 1)
    chunk = np.repeat(np.arange(len(starts)), ends - starts)
    before = np.concatenate([[0], np.cumsum(ends - starts)[:-1]])
    return starts[chunk] + np.arange(len(chunk)) - before[chunk], chunk
