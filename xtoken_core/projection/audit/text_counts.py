"""What two tokenizers make of real text, counted from its alignment: weights for everything else that an audit says."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Self

import numpy as np

from xtoken_core.align import AlignmentBatch, align_batch, prefix_boundaries
from xtoken_core.chunk_sizes import ChunkSizes
from xtoken_core.projection.audit.cells import VocabularyCells
from xtoken_core.ragged import Ragged
from xtoken_core.tokenizer import Tokenizer
from xtoken_core.vocabulary import TokenKind, Vocabulary


@dataclass(frozen=True, eq=False)
class TextCounts:
    """Counts over some windows of text; `plus` adds them up.

    student_tokens: int64 [Vs], how often each student token is to be learnt.
    teacher_tokens: int64 [Vt], how often the teacher has each token in a chunk.
    boundaries: places where prefix_kl compares the two models.
    agreeing: of these, where the two tokens that follow share a cell (see `VocabularyCells`).
    n_bytes, n_exact_bytes: bytes of text, and those in exact chunks.
    sizes: how long the chunks are.
    """

    student_tokens: np.ndarray
    teacher_tokens: np.ndarray
    boundaries: int
    agreeing: int
    n_bytes: int
    n_exact_bytes: int
    sizes: ChunkSizes

    def plus(self, other: Self) -> Self:
        """The counts of both."""
        sizes = ChunkSizes(self.sizes.tokens + other.sizes.tokens, self.sizes.bytes + other.sizes.bytes)
        return type(self)(
            self.student_tokens + other.student_tokens,
            self.teacher_tokens + other.teacher_tokens,
            self.boundaries + other.boundaries,
            self.agreeing + other.agreeing,
            self.n_bytes + other.n_bytes,
            self.n_exact_bytes + other.n_exact_bytes,
            sizes,
        )


@dataclass(frozen=True, eq=False)
class AlignedTexts:
    """Some windows as an alignment shard holds them; the loss mask has a bool per student token."""

    student_ids: Ragged
    teacher_ids: Ragged
    student_loss_mask: Ragged
    alignment: AlignmentBatch

    @classmethod
    def of(cls, texts: list[str], student: Tokenizer, teacher: Tokenizer) -> Self:
        """`texts` encoded and aligned; what counts is text."""
        ours, theirs = student.encode_batch(texts), teacher.encode_batch(texts)
        mask = Ragged(student.vocabulary.kind[ours.values] == TokenKind.TEXT, ours.offsets)
        return cls(ours, theirs, mask, align_batch(ours, theirs, student.vocabulary, teacher.vocabulary))


def count_texts(parts: Iterable[AlignedTexts], student: Vocabulary, teacher: Vocabulary) -> TextCounts:
    """The counts of all `parts`, of which one at a time is held; ValueError where there is none."""
    cells = VocabularyCells.between(student, teacher)
    counts = (_count(part, student, teacher, cells) for part in parts)
    first = next(counts, None)
    if first is None:
        raise ValueError("no text to count: give at least one window, or audit without counts.")
    return reduce(TextCounts.plus, counts, first)


def _count(part: AlignedTexts, student: Vocabulary, teacher: Vocabulary, cells: VocabularyCells) -> TextCounts:
    sizes = ChunkSizes.none()
    sizes.add(part.student_ids, part.alignment, student)
    shared = _share_a_cell(part, cells, student.dummy_prefix or teacher.dummy_prefix)
    return TextCounts(
        student_tokens=np.bincount(part.student_ids.values[part.student_loss_mask.values], minlength=student.size),
        teacher_tokens=np.bincount(_in_chunks(part), minlength=teacher.size),
        boundaries=len(shared),
        agreeing=int(np.count_nonzero(shared)),
        n_bytes=int(part.alignment.n_bytes.sum(dtype=np.int64)),
        n_exact_bytes=int(part.alignment.n_exact_bytes.sum(dtype=np.int64)),
        sizes=sizes,
    )


def _share_a_cell(part: AlignedTexts, cells: VocabularyCells, dummy_prefix: bool) -> np.ndarray:
    """For each boundary whether the tokens that follow share a cell, bool [boundaries]; not where the teacher ends."""
    found = prefix_boundaries(part.alignment, part.student_loss_mask, dummy_prefix)
    student_next = part.student_ids.offsets[found.row] + found.student_position + 1
    teacher_next = part.teacher_ids.offsets[found.row] + found.teacher_position + 1
    goes_on = teacher_next < part.teacher_ids.offsets[found.row + 1]
    theirs = cells.teacher[part.teacher_ids.values[np.where(goes_on, teacher_next, 0)]]
    return goes_on & (cells.student[part.student_ids.values[student_next]] == theirs)


def _in_chunks(part: AlignedTexts) -> np.ndarray:
    """The teacher ids that are in a chunk, hence not a mark in front of the text."""
    ids = part.teacher_ids
    place = np.arange(len(ids.values)) - np.repeat(ids.offsets[:-1], ids.lengths)
    return ids.values[place >= np.repeat(part.alignment.teacher_chunk_start0, ids.lengths)]
