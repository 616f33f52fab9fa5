"""Brute-force forms of what the library computes: slow, obvious, and written from the definitions alone."""

from collections.abc import Sequence

from xtoken_core.align import AlignmentBatch, ChunkKind
from xtoken_core.ragged import Ragged
from xtoken_core.vocabulary import Vocabulary


def common_boundaries(student: Sequence[bytes], teacher: Sequence[bytes]) -> list[tuple[int, int]]:
    """All (i, j) where the first i tokens and the first j tokens spell the same, and no fewer tokens do.

    The last pair is that of the lengths: tokens at the end that spell nothing belong to the last chunk.
    """
    pairs = [
        (i, j)
        for i in range(1, len(student) + 1)
        for j in range(1, len(teacher) + 1)
        if student[i - 1] and teacher[j - 1] and b"".join(student[:i]) == b"".join(teacher[:j])
    ]
    return [*pairs[:-1], (len(student), len(teacher))]


def marks_before_chunk_0(student: Sequence[str | None], teacher: Sequence[str | None]) -> tuple[int, int]:
    """How many of the special tokens that two rows begin with are in no chunk: all up to the last without a partner.

    The roles of these tokens, at most one each and each at most once; None for a token that plays none.
    """
    if student and teacher and student[-1] is not None and student[-1] == teacher[-1]:
        return marks_before_chunk_0(student[:-1], teacher[:-1])
    return len(student), len(teacher)


def longest_proper_prefix(vocabulary: Vocabulary, token_id: int) -> int:
    """The lowest id among those that spell the longest proper prefix of a token, -1 where none does."""
    token = vocabulary.token_bytes(token_id)
    others = [(other, vocabulary.token_bytes(other)) for other in range(vocabulary.size)]
    prefixes = [(-len(spelled), other) for other, spelled in others if spelled and len(spelled) < len(token)]
    found = [pair for pair in prefixes if token.startswith(vocabulary.token_bytes(pair[1]))]
    return min(found)[1] if found else -1


def comparable_positions(batch: AlignmentBatch, loss_mask: Ragged, dummy_prefix: bool) -> list[tuple[int, int, int]]:
    """(row, student position, teacher position) of every boundary where next-token distributions are compared."""
    found = []
    for row in range(len(batch)):
        starts = [(int(batch.student_chunk_start0[row]), int(batch.teacher_chunk_start0[row]))]
        ends = zip(batch.student_chunk_ends.row(row).tolist(), batch.teacher_chunk_ends.row(row).tolist(), strict=True)
        starts += ends
        for c in range(len(starts) - 1):
            (i, j), (end, _) = starts[c], starts[c + 1]
            harmless = batch.chunk_exact.row(row) | (batch.chunk_kind.row(row) == ChunkKind.TEMPLATE)
            same_bytes_read = harmless[:c].all()
            prefix_passed = not dummy_prefix or (batch.chunk_kind.row(row)[:c] == ChunkKind.TEXT).any()
            if same_bytes_read and prefix_passed and min(i, j) > 0 and end > i and loss_mask.row(row)[i]:
                found.append((row, i - 1, j - 1))
    return found
