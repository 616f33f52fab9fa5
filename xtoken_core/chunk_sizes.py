"""How long chunks are, in tokens of both sides and in bytes, counted in one pass over many windows."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numba import njit

from xtoken_core.align import AlignmentBatch, ChunkKind
from xtoken_core.ragged import Ragged
from xtoken_core.text_bytes import token_bytes
from xtoken_core.vocabulary import Vocabulary

LONGEST = 8  # the last class of tokens in a chunk: this many or more
MOST_BYTES = 24  # the same of bytes
_TEXT = 0
assert _TEXT == ChunkKind.TEXT


@dataclass(frozen=True, eq=False)
class ChunkSizes:
    """Chunks by their size.

    tokens: int64 [LONGEST + 1, LONGEST + 1], chunks by their student and teacher tokens.
    bytes: int64 [MOST_BYTES + 1], chunks by the bytes of the text that their student tokens spell.
    The last of each dimension counts what is as large or larger.
    """

    tokens: np.ndarray
    bytes: np.ndarray

    @classmethod
    def none(cls) -> Self:
        """Of no chunks."""
        return cls(np.zeros((LONGEST + 1, LONGEST + 1), np.int64), np.zeros(MOST_BYTES + 1, np.int64))

    @property
    def chunks(self) -> int:
        """All chunks."""
        return int(self.tokens.sum())

    @property
    def student(self) -> list[int]:
        """Chunks by their number of student tokens."""
        return self.tokens.sum(axis=1).tolist()

    @property
    def teacher(self) -> list[int]:
        """Chunks by their number of teacher tokens."""
        return self.tokens.sum(axis=0).tolist()

    @property
    def one_to_one(self) -> int:
        """Chunks of one token on each side."""
        return int(self.tokens[1, 1])

    def add(self, student_ids: Ragged, chunks: AlignmentBatch, student: Vocabulary) -> np.ndarray:
        """Count the chunks of some windows.

        Returns the bytes of text in inexact chunks of each window, int64 [windows]: what templates differ in is not in
        them, as it differs in every chat.
        """
        differing = np.zeros(len(chunks), dtype=np.int64)
        ours, theirs = chunks.student_chunk_ends, chunks.teacher_chunk_ends
        _count(
            (token_bytes(student_ids, student), student_ids.offsets, chunks.student_chunk_start0, ours.values),
            (chunks.teacher_chunk_start0, theirs.values),
            (ours.offsets, chunks.chunk_exact.values, chunks.chunk_kind.values),
            (self.tokens, self.bytes, differing),
        )
        return differing


@njit(nogil=True, cache=True)
def _count(student: tuple, teacher: tuple, chunks: tuple, counts: tuple) -> None:
    spelled, windows, our_starts, our_ends = student
    their_starts, their_ends = teacher
    offsets, exact, kind = chunks
    tokens, sizes, differing = counts
    for window in range(len(offsets) - 1):
        ours, theirs = np.int64(our_starts[window]), np.int64(their_starts[window])
        for chunk in range(offsets[window], offsets[window + 1]):
            our_end, their_end = np.int64(our_ends[chunk]), np.int64(their_ends[chunk])
            tokens[min(our_end - ours, len(tokens) - 1), min(their_end - theirs, len(tokens) - 1)] += 1
            size = 0
            for token in range(windows[window] + ours, windows[window] + our_end):
                size += spelled[token]
            sizes[min(size, len(sizes) - 1)] += 1
            if kind[chunk] == _TEXT and not exact[chunk]:
                differing[window] += size
            ours, theirs = our_end, their_end
