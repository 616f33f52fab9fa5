"""Aligning whole batches of windows, in blocks: compiled code, which releases the GIL."""

from collections.abc import Iterator

import numpy as np

from xtoken_core.align.anchors import Stretches, find_anchors
from xtoken_core.align.chunks import AlignmentBatch
from xtoken_core.align.compiled import Chunks, Rows, cut_chunks, find_sections, find_stretches
from xtoken_core.align.path import Limits, find_paths
from xtoken_core.align.segments import Segments, leads_of
from xtoken_core.align.spelled import Table, give_leads, spell_rows, strip_dummy_prefixes
from xtoken_core.ragged import Ragged, offsets_of
from xtoken_core.roles import paired_roles
from xtoken_core.vocabulary import Vocabulary

# Student tokens that go through all steps together: their bytes stay in the processor's cache, and what Python adds
# to a block vanishes beside the milliseconds that it takes.
_BLOCK = 1 << 16


def align_batch(
    student_ids: Ragged, teacher_ids: Ragged, student: Vocabulary, teacher: Vocabulary, segments: Segments | None = None
) -> AlignmentBatch:
    """Aligns row by row two tokenizations of the same windows, special tokens included.

    Where both rows spell the same bytes, chunks are the finest partition at common byte boundaries, all exact but for
    special tokens without a counterpart. Where they do not, chunks end where tokens of both sides end at places that
    the cheapest way from one text to the other maps to each other (`xtoken_core.align.path`), and those that spell the
    same are exact.

    With `segments`, each segment is aligned with its counterpart. The chunks of a template are of kind TEMPLATE, or
    special tokens paired by role; where the two templates do not spell the same bytes, all that is between two such
    pairs is one inexact chunk.

    Raises ValueError where the two batches do not have the same number of rows, hold an id that its vocabulary does
    not have, or have segments that do not fit.
    """
    if len(student_ids) != len(teacher_ids):
        raise ValueError(f"{len(student_ids)} student rows but {len(teacher_ids)} teacher rows: give both per window.")
    student_ids = _checked(student_ids, student, "student")
    teacher_ids = _checked(teacher_ids, teacher, "teacher")
    segments = segments or Segments.none(len(student_ids))
    segments.check(student_ids, teacher_ids)
    student_roles, teacher_roles = paired_roles(student, teacher)
    tables = Table.of(student, student_roles), Table.of(teacher, teacher_roles)
    blocks = [
        _align_block(_rows(student_ids, *block), _rows(teacher_ids, *block), tables, _segments(segments, *block))
        for block in _blocks(student_ids, teacher_ids)
    ]
    return _as_batch(blocks)


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


def _blocks(student_ids: Ragged, teacher_ids: Ragged) -> Iterator[tuple[int, int]]:
    """First row and the row after the last; at least one block, whatever there is."""
    before = student_ids.offsets + teacher_ids.offsets
    first = 0
    while True:
        last = int(np.searchsorted(before, before[first] + 2 * _BLOCK, side="right")) - 1
        last = min(max(last, first + 1), len(student_ids))
        yield first, last
        first = last
        if first >= len(student_ids):
            return


def _rows(ragged: Ragged, first: int, last: int) -> Ragged:
    """Some rows, from offset zero."""
    offsets = ragged.offsets[first : last + 1]
    return Ragged(ragged.values[offsets[0] : offsets[-1]], offsets - offsets[0])


def _segments(segments: Segments, first: int, last: int) -> Segments:
    """Those of some rows; copied, because compiled code is made anew for read-only arrays."""
    ours, theirs = segments.student_ends, segments.teacher_ends
    leads = leads_of(segments.student_leads, ours), leads_of(segments.teacher_leads, theirs)
    sides = (_rows(side, first, last) for side in (ours, theirs, *leads))
    return Segments(*(Ragged(np.array(side.values, dtype=np.int32), side.offsets) for side in sides))


def _align_block(
    student_ids: Ragged, teacher_ids: Ragged, tables: tuple[Table, Table], segments: Segments
) -> tuple[Rows, Chunks]:
    student = spell_rows(student_ids.values, student_ids.offsets, tables[0])
    teacher = spell_rows(teacher_ids.values, teacher_ids.offsets, tables[1])
    ours, theirs = segments.student_ends, segments.teacher_ends
    strip_dummy_prefixes(student, teacher, tables[0].dummy_prefix, tables[1].dummy_prefix, ours.lengths == 0)
    for texts, ends, leads in ((student, ours, segments.student_leads), (teacher, theirs, segments.teacher_leads)):
        give_leads(texts, ends.values, leads_of(leads, ends).values, ends.offsets)
    sections = find_sections(student, teacher, ours.values, theirs.values, ours.offsets)
    stretches = Stretches(*find_stretches(student, teacher, sections))
    anchors = find_anchors(student.data, teacher.data, stretches)
    paths = find_paths(student.data, teacher.data, stretches, anchors, Limits())
    return _filled(*cut_chunks(student, teacher, sections, paths))


def _filled(rows: Rows, chunks: Chunks) -> tuple[Rows, Chunks]:
    """Without the room behind the last chunk; still views of the whole arrays."""
    total = rows.n_chunks.sum()
    return rows, Chunks(*(column[:total] for column in chunks))


def _as_batch(blocks: list[tuple[Rows, Chunks]]) -> AlignmentBatch:
    rows = Rows(*(np.concatenate(column) for column in zip(*(block[0] for block in blocks), strict=True)))
    chunks = Chunks(*(np.concatenate(column) for column in zip(*(block[1] for block in blocks), strict=True)))
    offsets = offsets_of(rows.n_chunks)
    return AlignmentBatch(
        student_chunk_start0=rows.student_start,
        teacher_chunk_start0=rows.teacher_start,
        student_chunk_ends=Ragged(chunks.student_ends, offsets),
        teacher_chunk_ends=Ragged(chunks.teacher_ends, offsets),
        chunk_exact=Ragged(chunks.exact, offsets),
        chunk_kind=Ragged(chunks.kind, offsets),
        n_chunks=rows.n_chunks,
        n_exact=rows.n_exact,
        n_bytes=rows.n_bytes,
        n_exact_bytes=rows.n_exact_bytes,
    )
