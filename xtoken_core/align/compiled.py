"""The compiled aligner of blocks of rows: first the sections of both sides that belong together, then their chunks.

Where two token streams spell the same bytes, one linear walk yields the finest partition there is: a chunk ends
wherever a token of either side ends at the same byte. Special tokens have no bytes; those that stand at the same byte
on both sides pair by role, the others are chunks that are empty on one side. Tokens that spell nothing (a dummy prefix
on its own) join the chunk after them. Where the bytes differ, the same walk follows the diagonals of the cheapest way
from one text to the other (`xtoken_core.align.path`), and what lies between two diagonals is one inexact chunk.

All of it is one file, because numba renews a cached function only when the function's own file changes, not when the
file of a function that it calls does. Its constants are written out here for the same reason: a cached function keeps
those that it was compiled with.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from xtoken_core.align.chunks import ChunkKind
from xtoken_core.align.path import Diagonals
from xtoken_core.align.spelled import Texts

_TEXT, _SPECIAL, _TEMPLATE = 0, 1, 2
assert (_TEXT, _SPECIAL, _TEMPLATE) == (ChunkKind.TEXT, ChunkKind.SPECIAL, ChunkKind.TEMPLATE)

_SPECIAL_MARK = 0x80  # as in `Table.marks`
_ROLES = _SPECIAL_MARK - 1

_NEITHER, _STUDENT, _TEACHER, _BOTH = range(4)
_LOOK_AHEAD = 8  # special tokens searched for a partner, so that a long row of them costs linear time

# What a section is: text of the same bytes on both sides, or of different ones; template text of the same bytes, or
# anything else of the templates, which is not compared; two special tokens that pair.
_SAME, _DIFFERENT, _SAME_TEMPLATE, _OTHER_TEMPLATE, _PAIR = range(5)
_LONGEST_SLIDE = 128  # bytes that a gap is moved, so that a long run of one byte costs linear time


class Side(NamedTuple):
    """The n tokens of one tokenizer for one row or section."""

    offsets: np.ndarray  # int64 [n + 1], token i spells text[offsets[i]:offsets[i + 1]]
    marks: np.ndarray  # uint8 [n], as in Table
    text: np.ndarray  # uint8, the bytes that the row's tokens spell


class Span(NamedTuple):
    """The tokens of a row that a section may have: student[0] up to before student[1], likewise the teacher's."""

    student: tuple[int, int]
    teacher: tuple[int, int]


class Sections(NamedTuple):
    """How rows are cut before their chunks are made; a section's first tokens are those after the section before it."""

    rows: np.ndarray  # int64 [rows + 1], which sections belong to each row
    student_starts: np.ndarray  # int32 [rows], where chunk 0 begins
    teacher_starts: np.ndarray
    student_ends: np.ndarray  # int32 [sections], in tokens of the row
    teacher_ends: np.ndarray
    kinds: np.ndarray  # int8 [sections]


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


class Line(NamedTuple):
    """Where a walk goes: byte b of the student's text corresponds to byte b + shift of the teacher's."""

    shift: int
    begin: int  # in bytes of the student's text
    end: int
    same: bool  # the bytes are known to be equal
    kind: int  # of the text chunks


class Rows(NamedTuple):
    """What there is one of per window, int32 [rows] each."""

    student_start: np.ndarray
    teacher_start: np.ndarray
    n_chunks: np.ndarray
    n_exact: np.ndarray
    n_bytes: np.ndarray
    n_exact_bytes: np.ndarray


@njit(nogil=True, cache=True)
def _side(texts: Texts, row: int) -> Side:
    first, last = texts.tokens[row], texts.tokens[row + 1]
    offsets = texts.offsets[first + row : last + row + 1]
    begin = texts.begins[row]
    return Side(offsets, texts.marks[first:last], texts.data[begin : begin + offsets[-1]])


# Sections.


@njit(nogil=True, cache=True)
def find_sections(
    student: Texts, teacher: Texts, student_segments: np.ndarray, teacher_segments: np.ndarray, segments: np.ndarray
) -> Sections:
    """Cuts rows at their segments, and these at special tokens that pair where the texts around them differ.

    Row r has the segments from segments[r] up to before segments[r + 1] (int64 [rows + 1]), which end before these
    tokens (int32).
    """
    n_rows = len(student.begins)
    room = n_rows + len(student_segments) + 2 * len(_role_marks(student.marks, (0, len(student.marks))))
    sections = _room_for_sections(n_rows, room)
    n = 0
    for row in range(n_rows):
        ours, theirs = _side(student, row), _side(teacher, row)
        first, last = segments[row], segments[row + 1]
        if first == last:
            start = _after_unpaired_marks(ours, theirs)
            sections.student_starts[row], sections.teacher_starts[row] = start.student, start.teacher
            span = Span((start.student, len(ours.marks)), (start.teacher, len(theirs.marks)))
            n = _cut_text(ours, theirs, span, sections, n)
        else:
            n = _cut_segments(ours, theirs, student_segments[first:last], teacher_segments[first:last], sections, n)
        sections.rows[row + 1] = n
    return sections


@njit(nogil=True, cache=True)
def _room_for_sections(n_rows: int, n: int) -> Sections:
    return Sections(
        np.zeros(n_rows + 1, np.int64),
        np.zeros(n_rows, np.int32),
        np.zeros(n_rows, np.int32),
        np.empty(n, np.int32),
        np.empty(n, np.int32),
        np.empty(n, np.int8),
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
def _cut_segments(
    student: Side, teacher: Side, student_ends: np.ndarray, teacher_ends: np.ndarray, sections: Sections, n: int
) -> int:
    """Template, content, template, content and so on."""
    i = j = 0
    for segment in range(len(student_ends)):
        span = Span((i, student_ends[segment]), (j, teacher_ends[segment]))
        if segment % 2:
            n = _cut_text(student, teacher, span, sections, n)
        else:
            n = _cut_template(student, teacher, span, sections, n)
        i, j = student_ends[segment], teacher_ends[segment]
    return n


@njit(nogil=True, cache=True)
def _cut_text(student: Side, teacher: Side, span: Span, sections: Sections, n: int) -> int:
    """One section where the bytes are the same, or where it is not clear which special tokens belong together."""
    if _spell_the_same(student, teacher, span):
        return _add_section(sections, n, span, _SAME)
    ours, theirs = _role_marks(student.marks, span.student), _role_marks(teacher.marks, span.teacher)
    if not _same_roles(student.marks, ours, teacher.marks, theirs):
        return _add_section(sections, n, span, _DIFFERENT)
    return _cut_at_pairs(student, teacher, span, ours, theirs, False, sections, n)


@njit(nogil=True, cache=True)
def _cut_template(student: Side, teacher: Side, span: Span, sections: Sections, n: int) -> int:
    if _spell_the_same(student, teacher, span):
        return _add_section(sections, n, span, _SAME_TEMPLATE)
    ours, theirs = _role_marks(student.marks, span.student), _role_marks(teacher.marks, span.teacher)
    ours, theirs = _pair_up(student.marks, ours, teacher.marks, theirs)
    return _cut_at_pairs(student, teacher, span, ours, theirs, True, sections, n)


@njit(nogil=True, cache=True)
def _spell_the_same(student: Side, teacher: Side, span: Span) -> bool:
    s_begin, s_end = student.offsets[span.student[0]], student.offsets[span.student[1]]
    t_begin, t_end = teacher.offsets[span.teacher[0]], teacher.offsets[span.teacher[1]]
    return s_end - s_begin == t_end - t_begin and _equal(student.text, s_begin, s_end, teacher.text, t_begin)


@njit(nogil=True, cache=True)
def _role_marks(marks: np.ndarray, tokens: tuple[int, int]) -> np.ndarray:
    """The special tokens among these that have a role which both sides know."""
    found, n = np.empty(tokens[1] - tokens[0], np.int64), 0
    for i in range(tokens[0], tokens[1]):
        if marks[i] & _ROLES:
            found[n] = i
            n += 1
    return found[:n]


@njit(nogil=True, cache=True)
def _same_roles(s_marks: np.ndarray, ours: np.ndarray, t_marks: np.ndarray, theirs: np.ndarray) -> bool:
    if len(ours) != len(theirs):
        return False
    for k in range(len(ours)):  # noqa: SIM110 (numba knows no generator expressions)
        if s_marks[ours[k]] != t_marks[theirs[k]]:
            return False
    return True


@njit(nogil=True, cache=True)
def _pair_up(
    s_marks: np.ndarray, ours: np.ndarray, t_marks: np.ndarray, theirs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Those of the tokens `ours` and `theirs` that pair, in order; others are left out on the side that can wait."""
    paired_ours, paired_theirs = np.empty_like(ours), np.empty_like(theirs)
    i = j = n = 0
    while i < len(ours) and j < len(theirs):
        if s_marks[ours[i]] == t_marks[theirs[j]]:
            paired_ours[n], paired_theirs[n] = ours[i], theirs[j]
            i, j, n = i + 1, j + 1, n + 1
        elif _comes(s_marks[ours[i]], t_marks, theirs[j + 1 : j + 1 + _LOOK_AHEAD]):
            j += 1
        else:
            i += 1
    return paired_ours[:n], paired_theirs[:n]


@njit(nogil=True, cache=True)
def _comes(mark: int, marks: np.ndarray, tokens: np.ndarray) -> bool:
    for token in tokens:  # noqa: SIM110 (numba knows no generator expressions)
        if marks[token] == mark:
            return True
    return False


@njit(nogil=True, cache=True)
def _cut_at_pairs(
    student: Side,
    teacher: Side,
    span: Span,
    ours: np.ndarray,
    theirs: np.ndarray,
    template: bool,
    sections: Sections,
    n: int,
) -> int:
    """Sections of two special tokens each, and one for whatever is between them."""
    first, (i, j) = n, (span.student[0], span.teacher[0])
    for k in range(len(ours)):
        before = Span(
            (i, _before_empty(student, i, ours[k])),
            (j, _before_empty(teacher, j, theirs[k])),
        )
        n = _add_between(student, teacher, before, template, sections, n)
        i, j = ours[k] + 1, theirs[k] + 1
        n = _add_section(sections, n, Span((ours[k], i), (theirs[k], j)), _PAIR)
    rest = Span((i, span.student[1]), (j, span.teacher[1]))
    if n > first and _before_empty(student, *rest.student) == i and _before_empty(teacher, *rest.teacher) == j:
        return _add_section(sections, n - 1, rest, _PAIR)
    return _add_between(student, teacher, rest, template, sections, n)


@njit(nogil=True, cache=True)
def _before_empty(side: Side, first: int, last: int) -> int:
    """Where the tokens that spell nothing begin that stand before `last`; `first` at the earliest."""
    while last > first and side.offsets[last] == side.offsets[last - 1] and not side.marks[last - 1]:
        last -= 1
    return last


@njit(nogil=True, cache=True)
def _add_between(student: Side, teacher: Side, span: Span, template: bool, sections: Sections, n: int) -> int:
    if span.student[0] == span.student[1] and span.teacher[0] == span.teacher[1]:
        return n
    if template:
        return _add_section(sections, n, span, _OTHER_TEMPLATE)
    return _add_section(sections, n, span, _SAME if _spell_the_same(student, teacher, span) else _DIFFERENT)


@njit(nogil=True, cache=True)
def _add_section(sections: Sections, n: int, span: Span, kind: int) -> int:
    sections.student_ends[n], sections.teacher_ends[n] = span.student[1], span.teacher[1]
    sections.kinds[n] = kind
    return n + 1


@njit(nogil=True, cache=True)
def find_stretches(student: Texts, teacher: Texts, sections: Sections) -> tuple[np.ndarray, ...]:
    """Of every section whose texts differ: where it begins in the data of both sides, and its bytes.

    int64 [stretches]: student begins and lengths, teacher begins and lengths.
    """
    found, n = np.empty((4, sections.rows[-1]), dtype=np.int64), 0
    for row in range(len(student.begins)):
        ours, theirs = _side(student, row), _side(teacher, row)
        i, j = sections.student_starts[row], sections.teacher_starts[row]
        for section in range(sections.rows[row], sections.rows[row + 1]):
            i_end, j_end = sections.student_ends[section], sections.teacher_ends[section]
            if sections.kinds[section] == _DIFFERENT:
                found[0, n], found[2, n] = (
                    student.begins[row] + ours.offsets[i],
                    teacher.begins[row] + theirs.offsets[j],
                )
                found[1, n], found[3, n] = (
                    ours.offsets[i_end] - ours.offsets[i],
                    theirs.offsets[j_end] - theirs.offsets[j],
                )
                n += 1
            i, j = i_end, j_end
    return found[0, :n], found[1, :n], found[2, :n], found[3, :n]


# Chunks.


@njit(nogil=True, cache=True)
def cut_chunks(student: Texts, teacher: Texts, sections: Sections, paths: Diagonals) -> tuple[Rows, Chunks]:
    """All rows one after another; the chunks lie at the front of the returned arrays.

    `paths` has the ways through the stretches of `find_stretches`; its pieces may be changed.
    """
    n_rows = len(student.begins)
    chunks = _room_for(len(student.marks) + len(teacher.marks))
    rows = _no_rows(n_rows)
    total = stretch = 0
    for row in range(n_rows):
        ours, theirs = _side(student, row), _side(teacher, row)
        row_chunks = _from(chunks, total)
        start = at = Cursor(sections.student_starts[row], sections.teacher_starts[row], 0)
        for section in range(sections.rows[row], sections.rows[row + 1]):
            ends = (sections.student_ends[section], sections.teacher_ends[section])
            way = _way(paths, stretch if sections.kinds[section] == _DIFFERENT else -1)
            at = _cut_section(ours, theirs, at, ends, sections.kinds[section], way, row_chunks)
            stretch += sections.kinds[section] == _DIFFERENT
        _count(rows, row, ours, start, at, row_chunks)
        total += at.chunks
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
def _way(paths: Diagonals, stretch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pieces of one stretch: student bytes, teacher bytes, lengths; none for stretch -1."""
    first, last = (paths.offsets[stretch], paths.offsets[stretch + 1]) if stretch >= 0 else (0, 0)
    return paths.student[first:last], paths.teacher[first:last], paths.lengths[first:last]


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
def _cut_section(
    student: Side,
    teacher: Side,
    at: Cursor,
    ends: tuple[int, int],
    kind: int,
    way: tuple[np.ndarray, np.ndarray, np.ndarray],
    chunks: Chunks,
) -> Cursor:
    """The chunks of the tokens from `at` up to before `ends`."""
    ours, theirs = _part(student, at.student, ends[0]), _part(teacher, at.teacher, ends[1])
    here = _from(chunks, at.chunks)
    n = _cut_part(ours, theirs, kind, way, here)
    for chunk in range(n):
        here.student_ends[chunk] += at.student
        here.teacher_ends[chunk] += at.teacher
    return Cursor(ends[0], ends[1], at.chunks + n)


@njit(nogil=True, cache=True)
def _part(side: Side, first: int, last: int) -> Side:
    """Some tokens of a row; their offsets are still those in the row's text."""
    return Side(side.offsets[first : last + 1], side.marks[first:last], side.text)


@njit(nogil=True, cache=True)
def _cut_part(
    student: Side, teacher: Side, kind: int, way: tuple[np.ndarray, np.ndarray, np.ndarray], chunks: Chunks
) -> int:
    """Writes the chunks of one section, counted from its first tokens; returns how many."""
    at, n_student, n_teacher = Cursor(0, 0, 0), len(student.marks), len(teacher.marks)
    if kind == _PAIR:
        return _write_chunk(chunks, at, n_student, n_teacher, True, _SPECIAL).chunks
    if kind == _OTHER_TEMPLATE:
        return _write_chunk(chunks, at, n_student, n_teacher, False, _TEMPLATE).chunks
    text_kind = _TEMPLATE if kind == _SAME_TEMPLATE else _TEXT
    if kind == _DIFFERENT:
        at = _follow(student, teacher, way, chunks)
    else:
        first, last = student.offsets[0], student.offsets[-1]
        line = Line(teacher.offsets[0] - first, first, last, True, text_kind)
        at = _walk(student, teacher, at, line, chunks)
    return _close(at, n_student, n_teacher, text_kind, chunks)


@njit(nogil=True, cache=True)
def _close(at: Cursor, n_student: int, n_teacher: int, kind: int, chunks: Chunks) -> int:
    """Puts tokens at the end that spell nothing into the last chunk; without any, they are one."""
    if at.student == n_student and at.teacher == n_teacher:
        return at.chunks
    if at.chunks == 0:
        return _write_chunk(chunks, at, n_student, n_teacher, n_student > 0 and n_teacher > 0, kind).chunks
    chunks.student_ends[at.chunks - 1] = n_student
    chunks.teacher_ends[at.chunks - 1] = n_teacher
    return at.chunks


@njit(nogil=True, cache=True)
def _write_chunk(chunks: Chunks, at: Cursor, student_end: int, teacher_end: int, exact: bool, kind: int) -> Cursor:
    """Writes the chunk from `at` to these ends and returns the place after it."""
    chunks.student_ends[at.chunks] = student_end
    chunks.teacher_ends[at.chunks] = teacher_end
    chunks.exact[at.chunks] = exact
    chunks.kind[at.chunks] = kind
    return Cursor(student_end, teacher_end, at.chunks + 1)


@njit(nogil=True, cache=True)
def _walk(student: Side, teacher: Side, at: Cursor, line: Line, chunks: Chunks) -> Cursor:
    """Writes the chunks from `at`, which is on the line, up to the line's end."""
    # The helpers take arrays, not sides: taking an array out of a tuple counts references, at every step.
    s_offsets, s_marks, t_offsets, t_marks = student.offsets, student.marks, teacher.offsets, teacher.marks
    s_text, t_text = student.text, teacher.text
    shift, end, same, kind = line.shift, line.end, line.same, line.kind
    unpaired = _SPECIAL if kind == _TEXT else kind
    while True:
        i = _skip_empty(s_offsets, s_marks, at.student)
        j = _skip_empty(t_offsets, t_marks, at.teacher)
        marked = _special_here(s_marks, i, t_marks, j)
        if marked == _BOTH:
            at = _write_chunk(chunks, at, i + 1, j + 1, True, _SPECIAL)
        elif marked == _STUDENT:
            at = _write_chunk(chunks, at, i + 1, at.teacher, False, unpaired)
        elif marked == _TEACHER:
            at = _write_chunk(chunks, at, at.student, j + 1, False, unpaired)
        else:
            begin = s_offsets[at.student]
            i, j, clean = _next_boundary(s_offsets, s_marks, i, t_offsets, t_marks, j, shift, end)
            if i < 0:
                return at
            exact = clean and (same or _equal(s_text, begin, s_offsets[i], t_text, begin + shift))
            at = _write_chunk(chunks, at, i, j, exact, kind)


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
    s_offsets: np.ndarray,
    s_marks: np.ndarray,
    i: int,
    t_offsets: np.ndarray,
    t_marks: np.ndarray,
    j: int,
    shift: int,
    end: int,
) -> tuple[int, int, bool]:
    """How many tokens of each side are read at the next common boundary, and whether none of them is special.

    Tokens `i` and `j` spell something. Returns (-1, -1, False) where there is none up to byte `end` of the student's.
    """
    clean = True
    i, j = i + 1, j + 1
    while i < len(s_offsets) and j < len(t_offsets) and s_offsets[i] <= end:
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
def _equal(s_text: np.ndarray, begin: int, end: int, t_text: np.ndarray, t_begin: int) -> bool:
    for byte in range(end - begin):  # noqa: SIM110 (numba knows no generator expressions)
        if s_text[begin + byte] != t_text[t_begin + byte]:
            return False
    return True


@njit(nogil=True, cache=True)
def _follow(student: Side, teacher: Side, way: tuple[np.ndarray, np.ndarray, np.ndarray], chunks: Chunks) -> Cursor:
    """Writes the chunks along the diagonals of a way, and one for each gap between two diagonals."""
    s_begins, t_begins, lengths = way
    s_begin, t_begin = student.offsets[0], teacher.offsets[0]
    at = Cursor(0, 0, 0)
    i = j = 0
    for piece in range(len(lengths)):
        if piece + 1 < len(lengths):
            _settle_gap(student, teacher, way, piece)
            if piece and not lengths[piece]:
                continue  # the gaps on both sides of it have become one
        begin, shift = s_begin + s_begins[piece], t_begin + t_begins[piece] - s_begin - s_begins[piece]
        line = Line(shift, begin, begin + lengths[piece], False, _TEXT)
        i, j, found = _first_on(student.offsets, i, teacher.offsets, j, line)
        if not found:
            continue
        if i > at.student or j > at.teacher:
            exact = _is_exact(student, (at.student, i), teacher, (at.teacher, j))
            at = _write_chunk(chunks, at, i, j, exact, _TEXT)
        at = _walk(student, teacher, at, line, chunks)
        i, j = at.student, at.teacher
    return at


@njit(nogil=True, cache=True)
def _first_on(s_offsets: np.ndarray, i: int, t_offsets: np.ndarray, j: int, line: Line) -> tuple[int, int, bool]:
    """How many tokens of each side are read at the first common boundary on the line, and whether there is one.

    Where there is none, the search on the next line can begin there: so all lines together cost linear time.
    """
    first, shift, begin, end = i, line.shift, line.begin, line.end
    while i < len(s_offsets) and j < len(t_offsets) and s_offsets[i] <= end:
        lead = s_offsets[i] + shift - t_offsets[j]
        if lead == 0 and s_offsets[i] >= begin:
            return i, j, True
        i += lead <= 0
        j += lead > 0
    while i > first and s_offsets[i - 1] == end:  # the next line may begin at this byte
        i -= 1
    return i, j, False


@njit(nogil=True, cache=True)
def _is_exact(student: Side, ours: tuple[int, int], teacher: Side, theirs: tuple[int, int]) -> bool:
    """Whether these tokens of both sides spell the same, and none is special."""
    s_begin, s_end = student.offsets[ours[0]], student.offsets[ours[1]]
    t_begin, t_end = teacher.offsets[theirs[0]], teacher.offsets[theirs[1]]
    if s_end - s_begin != t_end - t_begin or not _equal(student.text, s_begin, s_end, teacher.text, t_begin):
        return False
    return _is_text(student.marks, ours) and _is_text(teacher.marks, theirs)


@njit(nogil=True, cache=True)
def _is_text(marks: np.ndarray, tokens: tuple[int, int]) -> bool:
    for i in range(tokens[0], tokens[1]):  # noqa: SIM110 (numba knows no generator expressions)
        if marks[i]:
            return False
    return True


@njit(nogil=True, cache=True)
def _settle_gap(student: Side, teacher: Side, way: tuple[np.ndarray, np.ndarray, np.ndarray], piece: int) -> None:
    """Moves the gap after a piece, if bytes are only missing on one side, to where tokens end at most of its corners.

    Which of several equal bytes is missing costs the same: of two spaces where the other side has one it should be
    the one that is a token.
    """
    s_begins, t_begins, lengths = way
    x, y = s_begins[piece] + lengths[piece], t_begins[piece] + lengths[piece]
    to_x, to_y = s_begins[piece + 1], t_begins[piece + 1]
    if x < to_x and y < to_y:
        return
    s, t = student.offsets[0], teacher.offsets[0]
    back = _room_to_move(student.text[: s + to_x], s + x, teacher.text[: t + to_y], t + y, lengths[piece])
    best, most = 0, -1
    for k in range(back + 1):
        corners = _ends_at(student.offsets, s + x - k) + _ends_at(student.offsets, s + to_x - k)
        corners += _ends_at(teacher.offsets, t + y - k) + _ends_at(teacher.offsets, t + to_y - k)
        if corners > most:
            best, most = k, corners
    lengths[piece] -= best
    s_begins[piece + 1] -= best
    t_begins[piece + 1] -= best
    lengths[piece + 1] += best


@njit(nogil=True, cache=True)
def _room_to_move(s_text: np.ndarray, x: int, t_text: np.ndarray, y: int, length: int) -> int:
    """How many bytes a gap from (x, y) to the ends of both texts can begin earlier at the same cost.

    The bytes before its beginning and before its end must be the same, on both sides.
    """
    k = 0
    while k < min(length, _LONGEST_SLIDE):
        byte = s_text[x - 1 - k]
        if t_text[y - 1 - k] != byte or s_text[len(s_text) - 1 - k] != byte or t_text[len(t_text) - 1 - k] != byte:
            break
        k += 1
    return k


@njit(nogil=True, cache=True)
def _ends_at(offsets: np.ndarray, byte: int) -> int:
    """1 where a token ends before this byte, else 0."""
    return int(offsets[np.searchsorted(offsets, byte)] == byte)
