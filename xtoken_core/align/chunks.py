"""What an alignment is: two lists of chunk ends per window, with a verdict on every chunk."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from xtoken_core.ragged import Ragged


class ChunkKind(IntEnum):
    """What a chunk consists of."""

    TEXT = 0
    SPECIAL = 1  # special tokens: paired by role where exact, else without a counterpart
    TEMPLATE = 2  # tokens of chat templates, unpaired special ones included; inexact where the templates differ


@dataclass(frozen=True, eq=False)
class AlignmentBatch:
    """The alignment of a batch of windows; a row is a window.

    Chunk c of a row covers the student tokens from `student_chunk_ends[c - 1]` up to before `student_chunk_ends[c]`,
    and the same on the teacher's side. Chunk 0 begins at `chunk_start0`; the tokens before it are in no chunk: leading
    special tokens, up to the last that the other side does not have (an unpaired BOS). In rows with segments there are
    none, and `chunk_start0` is 0. The last ends are the lengths of the two id lists. A chunk may be empty on one side,
    never on both.

    student_chunk_start0, teacher_chunk_start0: int32 [rows].
    student_chunk_ends, teacher_chunk_ends: int32, `n_chunks` values a row.
    chunk_exact: bool, likewise; both sides spell the same bytes, or are special tokens paired by role.
    chunk_kind: int8 of `ChunkKind`, likewise.
    n_chunks, n_exact: int32 [rows], all chunks and the exact ones.
    n_bytes, n_exact_bytes: int32 [rows], bytes of text on the student's side, and those in exact chunks.
    """

    student_chunk_start0: np.ndarray
    teacher_chunk_start0: np.ndarray
    student_chunk_ends: Ragged
    teacher_chunk_ends: Ragged
    chunk_exact: Ragged
    chunk_kind: Ragged
    n_chunks: np.ndarray
    n_exact: np.ndarray
    n_bytes: np.ndarray
    n_exact_bytes: np.ndarray

    def __len__(self) -> int:
        return len(self.n_chunks)
