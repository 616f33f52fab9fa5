"""From token ids to the bytes that they spell, compiled: the first step of aligning a block of rows.

Constants are written out here, because a function in numba's cache keeps those that it was compiled with.
"""

from typing import NamedTuple, Self

import numpy as np
from numba import njit

from xtoken_core.vocabulary import TokenKind, Vocabulary

_SPACE = 0x20
_SPECIAL_MARK = 0x80  # set in the mark of every special token; the bits below it are its roles
_NO_BYTE = -1
_HEAD = 16  # bytes; the longest tokens by far are runs of white space


class Table(NamedTuple):
    """A vocabulary for compiled code."""

    data: np.ndarray  # uint8, all tokens' bytes
    offsets: np.ndarray  # int64 [V + 1]
    heads: np.ndarray  # uint8 [V, 16], each token's first bytes
    marks: np.ndarray  # uint8 [V], 0 for text, else _SPECIAL_MARK and role bits
    dummy_prefix: bool

    @classmethod
    def of(cls, vocabulary: Vocabulary, roles: np.ndarray) -> Self:
        """With the masks of `paired_roles`. Copies the arrays: compiled code is made anew for read-only ones."""
        marks = np.where(vocabulary.kind == TokenKind.SPECIAL, roles | _SPECIAL_MARK, 0)
        data, offsets = np.array(vocabulary.data), np.array(vocabulary.offsets)
        return cls(data, offsets, _heads(data, offsets), marks.astype(np.uint8), vocabulary.dummy_prefix)


class Texts(NamedTuple):
    """One side of a block: its tokens and what they spell, row after row.

    Token i of row r spells `data[begins[r] + offsets[p + i]:begins[r] + offsets[p + i + 1]]` with p = tokens[r] + r.
    """

    tokens: np.ndarray  # int64 [rows + 1], where each row's tokens begin
    marks: np.ndarray  # uint8 [tokens], as in Table
    offsets: np.ndarray  # int64 [tokens + rows], in bytes from the row's beginning; one more a row than it has tokens
    begins: np.ndarray  # int64 [rows], where each row's text begins in `data`
    data: np.ndarray  # uint8


@njit(nogil=True, cache=True)
def spell_rows(ids: np.ndarray, tokens: np.ndarray, table: Table) -> Texts:
    """What these rows spell, a dummy prefix still in them. `tokens`: int64 [rows + 1], row r is ids[tokens[r]:...]."""
    n_rows = len(tokens) - 1
    offsets = np.empty(len(ids) + n_rows, dtype=np.int64)
    begins = np.empty(n_rows, dtype=np.int64)
    total = 0
    for row in range(n_rows):
        begins[row] = total
        total += _measure(ids[tokens[row] : tokens[row + 1]], table.offsets, offsets[tokens[row] + row :])
    data = np.empty(total + _HEAD, dtype=np.uint8)
    _copy(ids, table.data, table.offsets, table.heads, data)
    return Texts(tokens, table.marks[ids], offsets, begins, data[:total])


@njit(nogil=True, cache=True)
def _measure(ids: np.ndarray, table_offsets: np.ndarray, offsets: np.ndarray) -> int:
    """Writes the offsets of one row and returns its bytes."""
    offsets[0] = 0
    for i in range(len(ids)):
        offsets[i + 1] = offsets[i] + table_offsets[ids[i] + 1] - table_offsets[ids[i]]
    return offsets[len(ids)]


@njit(nogil=True, cache=True)
def _heads(data: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    heads = np.zeros((len(offsets) - 1, _HEAD), dtype=np.uint8)
    for token_id in range(len(heads)):
        for i in range(min(offsets[token_id + 1] - offsets[token_id], _HEAD)):
            heads[token_id, i] = data[offsets[token_id] + i]
    return heads


@njit(nogil=True, cache=True)
def _copy(
    ids: np.ndarray, table_data: np.ndarray, table_offsets: np.ndarray, heads: np.ndarray, data: np.ndarray
) -> None:
    """Writes all tokens' bytes; behind the last there must be room for a head.

    A short token is copied as one block of fixed size, whose surplus the next token overwrites: the loop without a
    bound becomes one vector load and store, twice as fast as a loop over so few bytes.
    """
    written = 0
    for token_id in ids:
        length = table_offsets[token_id + 1] - table_offsets[token_id]
        if length <= _HEAD:
            for i in range(_HEAD):
                data[written + i] = heads[token_id, i]
        else:
            for i in range(length):
                data[written + i] = table_data[table_offsets[token_id] + i]
        written += length


@njit(nogil=True, cache=True)
def strip_dummy_prefixes(
    student: Texts, teacher: Texts, student_has: bool, teacher_has: bool, plain: np.ndarray
) -> None:
    """Takes the space that the tokenizers put in front of the text out of the rows that are `plain` (bool [rows])."""
    for row in range(len(plain)):
        if plain[row]:
            strip_student, strip_teacher = _which_to_strip(student, teacher, row, student_has, teacher_has)
            if strip_student:
                _strip(student, row)
            if strip_teacher:
                _strip(teacher, row)


@njit(nogil=True, cache=True)
def _which_to_strip(
    student: Texts, teacher: Texts, row: int, student_has: bool, teacher_has: bool
) -> tuple[bool, bool]:
    """Whether each side's text begins with a space that is not in the window.

    Some tokenizers leave it out where the text begins with a space of its own, and the ids do not tell these cases
    apart; the other side does: by its length and first byte, or by the byte alone where the lengths never agree.
    """
    strip_student = student_has and _byte(student, row, 0) == _SPACE
    strip_teacher = teacher_has and _byte(teacher, row, 0) == _SPACE
    for need_lengths in (True, False):
        if _look_alike(student, strip_student, teacher, strip_teacher, row, need_lengths):
            return strip_student, strip_teacher
        if strip_student and _look_alike(student, False, teacher, strip_teacher, row, need_lengths):
            return False, strip_teacher
        if strip_teacher and _look_alike(student, strip_student, teacher, False, row, need_lengths):
            return strip_student, False
    return strip_student, strip_teacher


@njit(nogil=True, cache=True)
def _look_alike(student: Texts, student_skip: int, teacher: Texts, teacher_skip: int, row: int, lengths: bool) -> bool:
    """Whether the texts begin with the same byte, and have the same length where `lengths`, when so much is skipped."""
    if lengths and _length(student, row) - student_skip != _length(teacher, row) - teacher_skip:
        return False
    return _byte(student, row, int(student_skip)) == _byte(teacher, row, int(teacher_skip))


@njit(nogil=True, cache=True)
def _length(texts: Texts, row: int) -> int:
    return texts.offsets[texts.tokens[row + 1] + row]


@njit(nogil=True, cache=True)
def _byte(texts: Texts, row: int, at: int) -> int:
    return texts.data[texts.begins[row] + at] if at < _length(texts, row) else _NO_BYTE


@njit(nogil=True, cache=True)
def _strip(texts: Texts, row: int) -> None:
    texts.begins[row] += 1
    for at in range(texts.tokens[row] + row, texts.tokens[row + 1] + row + 1):
        texts.offsets[at] = max(texts.offsets[at] - 1, 0)


@njit(nogil=True, cache=True)
def give_leads(texts: Texts, ends: np.ndarray, leads: np.ndarray, segments: np.ndarray) -> None:
    """Counts the first bytes of a segment's first token to the token before, which is of the segment before.

    Row r has the segments from segments[r] up to before segments[r + 1], with these ends and leads (int32).
    """
    for row in range(len(texts.begins)):
        offsets = texts.offsets[texts.tokens[row] + row : texts.tokens[row + 1] + row + 1]
        first = 0
        for segment in range(segments[row], segments[row + 1]):
            if leads[segment] > 0 and ends[segment] > first:
                offsets[first] = min(offsets[first] + leads[segment], offsets[first + 1])
            first = ends[segment]
