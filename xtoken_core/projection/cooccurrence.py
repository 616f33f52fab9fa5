"""Which student and teacher tokens meet in real text, as the first tokens of the same chunks.

Where both models have read the same bytes, the student's next token and the teacher's begin the same chunk. Counted
over a corpus this estimates what W stands for: the teacher's next token, given the student's. Counts are kept sorted,
so that a corpus of any length goes through shard by shard.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from xtoken_core.align import AlignmentBatch, ChunkKind
from xtoken_core.projection.entries import Entries, run_starts
from xtoken_core.projection.matrix import Rule
from xtoken_core.projection.settings import CooccurrenceSettings
from xtoken_core.ragged import Ragged

MAX_PAIRS = 1 << 24  # 400 MB while two such tables are joined; a billion tokens of text have some millions


@dataclass(frozen=True, eq=False)
class PairCounts:
    """How often pairs of ids met: int64 each, sorted by student id and then teacher id, every pair once."""

    student: np.ndarray
    teacher: np.ndarray
    count: np.ndarray

    @classmethod
    def none(cls) -> Self:
        """No pair yet."""
        return cls(*(np.empty(0, dtype=np.int64) for _ in range(3)))

    @classmethod
    def of(cls, student: np.ndarray, teacher: np.ndarray, count: np.ndarray | int = 1) -> Self:
        """Counts pairs in any order, each as often as it is given."""
        student, teacher = np.asarray(student, dtype=np.int64), np.asarray(teacher, dtype=np.int64)
        count = np.broadcast_to(np.asarray(count, dtype=np.int64), student.shape)
        order = np.argsort(student << 32 | teacher, kind="stable")
        student, teacher = student[order], teacher[order]
        first = run_starts(student, teacher)
        total = np.add.reduceat(count[order], first) if len(first) else count
        return cls(student[first], teacher[first], total)

    def plus(self, other: "PairCounts", max_pairs: int = MAX_PAIRS) -> "PairCounts":
        """The counts of both; of more than `max_pairs` pairs the rarest are forgotten."""
        both = [(getattr(self, name), getattr(other, name)) for name in ("student", "teacher", "count")]
        total = PairCounts.of(*(np.concatenate(parts) for parts in both))
        if len(total.count) <= max_pairs:
            return total
        kept = np.sort(np.argsort(-total.count, kind="stable")[:max_pairs])
        return PairCounts(total.student[kept], total.teacher[kept], total.count[kept])


def count_pairs(batch: AlignmentBatch, student_ids: Ragged, teacher_ids: Ragged) -> PairCounts:
    """The first student and the first teacher token of every exact chunk of text, counted."""
    chunks = batch.chunk_exact.values & (batch.chunk_kind.values == ChunkKind.TEXT)
    student = _first_tokens(batch.student_chunk_start0, batch.student_chunk_ends, student_ids)
    teacher = _first_tokens(batch.teacher_chunk_start0, batch.teacher_chunk_ends, teacher_ids)
    return PairCounts.of(student_ids.values[student[chunks]], teacher_ids.values[teacher[chunks]])


def _first_tokens(start0: np.ndarray, ends: Ragged, ids: Ragged) -> np.ndarray:
    """Where in `ids.values` each chunk begins, int64 [chunks]."""
    begins = np.empty(len(ends.values), dtype=np.int64)
    begins[1:] = ends.values[:-1]
    has_chunks = ends.lengths > 0
    begins[ends.offsets[:-1][has_chunks]] = start0[has_chunks]
    return begins + np.repeat(ids.offsets[:-1], ends.lengths)


def cooccurrence_entries(counts: PairCounts, settings: CooccurrenceSettings) -> Entries:
    """Each student token to the teacher tokens that it met, by their share of its meetings."""
    met = np.bincount(counts.student, weights=counts.count)
    weight = counts.count / (met + settings.prior)[counts.student]
    return Entries.of(counts.student, counts.teacher, weight, Rule.COOCCURRENCE)
