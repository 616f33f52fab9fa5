"""The compiled aligner: from the ids of many windows to their chunks, without a Python step per token.

Where two token streams spell the same bytes, one linear walk yields the finest partition there is: a chunk ends
wherever a token of either side ends at the same byte. Special tokens have no bytes; those that stand at the same byte
on both sides pair by role, the others are chunks that are empty on one side. Tokens that spell nothing (a dummy prefix
on its own) join the chunk after them.

All of it is one file, because numba renews a cached function only when the function's own file changes, not when the
file of a function that it calls does. Its constants are written out here for the same reason: a cached function keeps
those that it was compiled with.
"""

from typing import NamedTuple, Self

import numpy as np
from numba import njit

from xtoken_core.align.chunks import ChunkKind
from xtoken_core.vocabulary import TokenKind, Vocabulary

_TEXT, _SPECIAL = 0, 1
assert (_TEXT, _SPECIAL) == (ChunkKind.TEXT, ChunkKind.SPECIAL)

_SPACE = 0x20
_SPECIAL_MARK = 0x80  # set in the mark of every special token; the bits below it are its roles
_ROLES = _SPECIAL_MARK - 1

_NEITHER, _STUDENT, _TEACHER, _BOTH = range(4)
_LOOK_AHEAD = 8  # special tokens searched for a partner, so that a long row of them costs linear time


class Table(NamedTuple):
    """A vocabulary for compiled code."""

    data: np.ndarray  # uint8, all tokens' bytes
    offsets: np.ndarray  # int64 [V + 1]
    marks: np.ndarray  # uint8 [V], 0 for text, else _SPECIAL_MARK and role bits
    dummy_prefix: bool

    @classmethod
    def of(cls, vocabulary: Vocabulary, roles: np.ndarray) -> Self:
        """With the masks of `paired_roles`. Copies the arrays: compiled code is made anew for read-only ones."""
        marks = np.where(vocabulary.kind == TokenKind.SPECIAL, roles | _SPECIAL_MARK, 0)
        data, offsets = np.array(vocabulary.data), np.array(vocabulary.offsets)
        return cls(data, offsets, marks.astype(np.uint8), vocabulary.dummy_prefix)


class Side(NamedTuple):
    """The n tokens of one tokenizer for one window."""

    offsets: np.ndarray  # int64 [n + 1], token i spells text[offsets[i]:offsets[i + 1]]
    marks: np.ndarray  # uint8 [n], as in Table
    text: np.ndarray  # uint8, the bytes that the tokens spell


class Chunks(NamedTuple):
    """Where chunks are written; the arrays have room for as many as there are tokens on both sides."""

    student_ends: np.ndarray  # int32
    teacher_ends: np.ndarray  # int32
    exact: np.ndarray  # bool
    kind: np.ndarray  # int8


class Cursor(NamedTuple):
    """How far an alignment has come: tokens of both sides that are in chunks, and chunks written."""

    student: int
    teacher: int
    chunks: int


class Rows(NamedTuple):
    """What there is one of per window, int32 [rows] each."""

    student_start: np.ndarray
    teacher_start: np.ndarray
    n_chunks: np.ndarray
    n_exact: np.ndarray
    n_bytes: np.ndarray
    n_exact_bytes: np.ndarray


@njit(nogil=True, cache=True)
def align_rows(
    student_ids: np.ndarray,
    student_offsets: np.ndarray,
    teacher_ids: np.ndarray,
    teacher_offsets: np.ndarray,
    student_table: Table,
    teacher_table: Table,
) -> tuple[Rows, Chunks]:
    """All rows one after another; the chunks lie at the front of the returned arrays."""
    n_rows = len(student_offsets) - 1
    chunks = _room_for(len(student_ids) + len(teacher_ids))
    rows = _no_rows(n_rows)
    total = 0
    for row in range(n_rows):
        student, teacher = _without_dummy_prefixes(
            _spell(student_ids[student_offsets[row] : student_offsets[row + 1]], student_table),
            student_table.dummy_prefix,
            _spell(teacher_ids[teacher_offsets[row] : teacher_offsets[row + 1]], teacher_table),
            teacher_table.dummy_prefix,
        )
        start = _after_unpaired_marks(student, teacher)
        row_chunks = _from(chunks, total)
        end = _align_row(student, teacher, start, row_chunks)
        _count(rows, row, student, start, end, row_chunks)
        total += end.chunks
    return rows, chunks


@njit(nogil=True, cache=True)
def _room_for(n: int) -> Chunks:
    return Chunks(np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n, np.bool_), np.empty(n, np.int8))


@njit(nogil=True, cache=True)
def _from(chunks: Chunks, first: int) -> Chunks:
    return Chunks(chunks.student_ends[first:], chunks.teacher_ends[first:], chunks.exact[first:], chunks.kind[first:])


@njit(nogil=True, cache=True)
def _no_rows(n: int) -> Rows:
    return Rows(
        np.zeros(n, np.int32),
        np.zeros(n, np.int32),
        np.zeros(n, np.int32),
        np.zeros(n, np.int32),
        np.zeros(n, np.int32),
        np.zeros(n, np.int32),
    )


@njit(nogil=True, cache=True)
def _after_unpaired_marks(student: Side, teacher: Side) -> Cursor:
    """Where chunk 0 begins: after the last of the leading special tokens that the other side does not have.

    One model's `[gMASK] <sop>` or BOS says nothing about the text: with it in a chunk, which could not be exact, no
    text behind it would count as read by both.
    """
    start = at = Cursor(0, 0, 0)
    while True:
        i = _skip_empty(student.offsets, student.marks, at.student)
        j = _skip_empty(teacher.offsets, teacher.marks, at.teacher)
        marked = _special_here(student.marks, i, teacher.marks, j)
        if marked == _NEITHER:
            return start
        at = Cursor(at.student if marked == _TEACHER else i + 1, at.teacher if marked == _STUDENT else j + 1, 0)
        if marked != _BOTH:
            start = at


@njit(nogil=True, cache=True)
def _align_row(student: Side, teacher: Side, at: Cursor, chunks: Chunks) -> Cursor:
    if np.array_equal(student.text, teacher.text):
        at = _walk(student, teacher, at, 0, len(student.text), chunks)
    else:
        at = align_differing(student, teacher, at, chunks)
    return _close(student, teacher, at, chunks)


@njit(nogil=True, cache=True)
def _close(student: Side, teacher: Side, at: Cursor, chunks: Chunks) -> Cursor:
    """Puts tokens at the end that spell nothing into the last chunk."""
    n_student, n_teacher = len(student.marks), len(teacher.marks)
    if at.student == n_student and at.teacher == n_teacher:
        return at
    if at.chunks == 0:
        return _write_chunk(chunks, at, n_student, n_teacher, False, _TEXT)
    chunks.student_ends[at.chunks - 1] = n_student
    chunks.teacher_ends[at.chunks - 1] = n_teacher
    return Cursor(n_student, n_teacher, at.chunks)


@njit(nogil=True, cache=True)
def _count(rows: Rows, row: int, student: Side, start: Cursor, end: Cursor, chunks: Chunks) -> None:
    rows.student_start[row], rows.teacher_start[row] = start.student, start.teacher
    rows.n_chunks[row], rows.n_bytes[row] = end.chunks, len(student.text)
    before = student.offsets[start.student]
    for chunk in range(end.chunks):
        after = student.offsets[chunks.student_ends[chunk]]
        if chunks.exact[chunk]:
            rows.n_exact[row] += 1
            rows.n_exact_bytes[row] += after - before
        before = after


@njit(nogil=True, cache=True)
def _spell(ids: np.ndarray, table: Table) -> Side:
    """The side of these ids, a dummy prefix still in its text."""
    offsets = np.zeros(len(ids) + 1, dtype=np.int64)
    offsets[1:] = np.cumsum(table.offsets[ids + 1] - table.offsets[ids])
    text = np.empty(offsets[-1], dtype=np.uint8)
    for i in range(len(ids)):
        source = table.offsets[ids[i]]
        for byte in range(offsets[i], offsets[i + 1]):
            text[byte] = table.data[source + byte - offsets[i]]
    return Side(offsets, table.marks[ids], text)


@njit(nogil=True, cache=True)
def _without_dummy_prefixes(student: Side, student_has: bool, teacher: Side, teacher_has: bool) -> tuple[Side, Side]:
    """Both sides without the space that their tokenizers put in front of the text.

    Some leave it out where the text begins with a space of its own, and the ids do not tell these cases apart; the
    other side does.
    """
    strip_student = student_has and _starts_with_space(student)
    strip_teacher = teacher_has and _starts_with_space(teacher)
    bare_student = _stripped(student) if strip_student else student
    bare_teacher = _stripped(teacher) if strip_teacher else teacher
    if not _look_alike(bare_student, bare_teacher):
        if strip_student and _look_alike(student, bare_teacher):
            return student, bare_teacher
        if strip_teacher and _look_alike(bare_student, teacher):
            return bare_student, teacher
    return bare_student, bare_teacher


@njit(nogil=True, cache=True)
def _starts_with_space(side: Side) -> bool:
    return len(side.text) > 0 and side.text[0] == _SPACE


@njit(nogil=True, cache=True)
def _stripped(side: Side) -> Side:
    return Side(np.maximum(side.offsets - 1, 0), side.marks, side.text[1:])


@njit(nogil=True, cache=True)
def _look_alike(student: Side, teacher: Side) -> bool:
    if len(student.text) != len(teacher.text):
        return False
    return len(student.text) == 0 or student.text[0] == teacher.text[0]


@njit(nogil=True, cache=True)
def _write_chunk(chunks: Chunks, at: Cursor, student_end: int, teacher_end: int, exact: bool, kind: int) -> Cursor:
    """Writes the chunk from `at` to these ends and returns the place after it."""
    chunks.student_ends[at.chunks] = student_end
    chunks.teacher_ends[at.chunks] = teacher_end
    chunks.exact[at.chunks] = exact
    chunks.kind[at.chunks] = kind
    return Cursor(student_end, teacher_end, at.chunks + 1)


@njit(nogil=True, cache=True)
def _walk(student: Side, teacher: Side, at: Cursor, shift: int, limit: int, chunks: Chunks) -> Cursor:
    """Writes the chunks from `at` on that end at or before byte `limit` of the student's text.

    Up to there the two texts must be equal, byte b of the student's being byte b + `shift` of the teacher's.
    """
    # The helpers take arrays, not sides: taking an array out of a tuple counts references, at every step.
    s_offsets, s_marks, t_offsets, t_marks = student.offsets, student.marks, teacher.offsets, teacher.marks
    while True:
        i = _skip_empty(s_offsets, s_marks, at.student)
        j = _skip_empty(t_offsets, t_marks, at.teacher)
        marked = _special_here(s_marks, i, t_marks, j)
        if marked == _BOTH:
            at = _write_chunk(chunks, at, i + 1, j + 1, True, _SPECIAL)
        elif marked == _STUDENT:
            at = _write_chunk(chunks, at, i + 1, at.teacher, False, _SPECIAL)
        elif marked == _TEACHER:
            at = _write_chunk(chunks, at, at.student, j + 1, False, _SPECIAL)
        else:
            i, j, clean = _next_boundary(s_offsets, s_marks, i, t_offsets, t_marks, j, shift)
            if i < 0 or s_offsets[i] > limit:
                return at
            at = _write_chunk(chunks, at, i, j, clean, _TEXT)


@njit(nogil=True, cache=True)
def _skip_empty(offsets: np.ndarray, marks: np.ndarray, i: int) -> int:
    """The first token from `i` on that is special or spells something."""
    while i < len(marks) and offsets[i + 1] == offsets[i] and not marks[i]:
        i += 1
    return i


@njit(nogil=True, cache=True)
def _special_here(s_marks: np.ndarray, i: int, t_marks: np.ndarray, j: int) -> int:
    """On which side a special token is the next chunk."""
    student = s_marks[i] if i < len(s_marks) else 0
    teacher = t_marks[j] if j < len(t_marks) else 0
    if not (student and teacher):
        return _STUDENT if student else _TEACHER if teacher else _NEITHER
    if student & teacher & _ROLES:
        return _BOTH
    return _TEACHER if _partner_follows(student, t_marks, j + 1) else _STUDENT


@njit(nogil=True, cache=True)
def _partner_follows(mark: int, marks: np.ndarray, j: int) -> bool:
    """Whether one of the special tokens from `j` on shares a role with `mark`."""
    for k in range(j, min(j + _LOOK_AHEAD, len(marks))):
        if marks[k] & mark & _ROLES:
            return True
        if not marks[k]:
            return False
    return False


@njit(nogil=True, cache=True)
def _next_boundary(
    s_offsets: np.ndarray, s_marks: np.ndarray, i: int, t_offsets: np.ndarray, t_marks: np.ndarray, j: int, shift: int
) -> tuple[int, int, bool]:
    """How many tokens of each side are read at the next common boundary, and whether none of them is special.

    Tokens `i` and `j` spell something. Returns (-1, -1, False) where a side ends before.
    """
    clean = True
    i, j = i + 1, j + 1
    while i < len(s_offsets) and j < len(t_offsets):
        lead = s_offsets[i] + shift - t_offsets[j]
        if lead == 0:
            return i, j, clean
        if lead < 0:
            clean &= i == len(s_marks) or not s_marks[i]
            i += 1
        else:
            clean &= j == len(t_marks) or not t_marks[j]
            j += 1
    return -1, -1, False


@njit(nogil=True, cache=True)
def align_differing(student: Side, teacher: Side, at: Cursor, chunks: Chunks) -> Cursor:
    """Aligns what the texts have in common at their beginning and end; the stretch between is one inexact chunk."""
    prefix = _common_prefix(student.text, teacher.text)
    suffix = _common_prefix(student.text[prefix:][::-1], teacher.text[prefix:][::-1])
    at = _walk(student, teacher, at, 0, prefix, chunks)
    student_end, teacher_end = _first_boundary_in_suffix(student, teacher, at, suffix)
    at = _write_chunk(chunks, at, student_end, teacher_end, False, _TEXT)
    return _walk(student, teacher, at, len(teacher.text) - len(student.text), len(student.text), chunks)


@njit(nogil=True, cache=True)
def _common_prefix(a: np.ndarray, b: np.ndarray) -> int:
    shorter = min(len(a), len(b))
    for byte in range(shorter):
        if a[byte] != b[byte]:
            return byte
    return shorter


@njit(nogil=True, cache=True)
def _first_boundary_in_suffix(student: Side, teacher: Side, at: Cursor, suffix: int) -> tuple[int, int]:
    """Tokens read on both sides at the first place with equally many bytes to come, at most `suffix`."""
    i, j = at.student, at.teacher
    while True:
        student_left = len(student.text) - student.offsets[i]
        teacher_left = len(teacher.text) - teacher.offsets[j]
        if student_left == teacher_left <= suffix:
            return i, j
        i += student_left >= teacher_left
        j += teacher_left >= student_left
