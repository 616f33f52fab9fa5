"""The cheapest way to turn one byte string into another, compiled.

Inserting, deleting and replacing a byte cost one each (Levenshtein 1966). The search goes by cost, not by cells: wave
d holds, for every diagonal (student bytes read minus teacher bytes read), how far d edits can reach, and equal bytes
are run over for nothing (Ukkonen 1985; Landau and Vishkin 1989). So a text costs its length plus its edits times the
width of the band, and any text at most its length times that width.

The band holds the diagonals nearest to that of the wave that reached furthest. What has more edits than a block has
waves is decided block by block: of the way to the point that reached furthest, three quarters are kept, so that every
decision has seen a quarter of a block of edits ahead.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from xtoken_core.align.anchors import Anchors, Stretches

_NOWHERE = -(1 << 30)
_MARGIN = 2  # columns on both sides of a wave that say that nothing was reached


class Limits(NamedTuple):
    """How far the search looks; its memory is 8 * band * waves bytes.

    As many waves as bytes of text go by where nothing is equal: 2 * band steps each.
    """

    band: int = 128  # diagonals to each side
    waves: int = 2048  # edits in a block


class Diagonals(NamedTuple):
    """The pieces of the ways: along a piece the k-th student byte corresponds to the k-th teacher byte.

    A piece begins at these bytes from the beginning of its stretch. Bytes on it may differ (replaced); between two
    pieces nothing corresponds. The first piece of a stretch begins where the stretch begins, the last ends at its end.
    """

    offsets: np.ndarray  # int64 [stretches + 1], which pieces belong to each stretch
    student: np.ndarray  # int64 [pieces]
    teacher: np.ndarray
    lengths: np.ndarray


class Waves(NamedTuple):
    """What a block of the search remembers."""

    reached: np.ndarray  # int32 [waves, 2 * band + 1 + 2 * margin], student bytes read; column of its lowest: margin
    lows: np.ndarray  # int64 [waves], lowest diagonal of each wave
    highs: np.ndarray


@njit(nogil=True, cache=True)
def find_paths(
    student: np.ndarray, teacher: np.ndarray, stretches: Stretches, anchors: Anchors, limits: Limits
) -> Diagonals:
    """The cheapest ways through the stretches of these texts (uint8) that pass through their anchors."""
    n = len(stretches.student_begins)
    room = np.sum(np.minimum(stretches.student_lengths, stretches.teacher_lengths) + 2)
    offsets = np.zeros(n + 1, dtype=np.int64)
    found = Diagonals(offsets, np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64))
    waves = _make_waves(limits if n else Limits(0, 1))
    for i in range(n):
        a = student[stretches.student_begins[i] :][: stretches.student_lengths[i]]
        b = teacher[stretches.teacher_begins[i] :][: stretches.teacher_lengths[i]]
        first, last = anchors.offsets[i], anchors.offsets[i + 1]
        pieces = Diagonals(
            offsets, found.student[offsets[i] :], found.teacher[offsets[i] :], found.lengths[offsets[i] :]
        )
        offsets[i + 1] = offsets[i] + _through(
            a, b, anchors.student[first:last], anchors.teacher[first:last], waves, pieces
        )
    return found


@njit(nogil=True, cache=True)
def _make_waves(limits: Limits) -> Waves:
    width = 2 * limits.band + 1 + 2 * _MARGIN
    return Waves(
        np.empty((limits.waves, width), dtype=np.int32),
        np.empty(limits.waves, dtype=np.int64),
        np.empty(limits.waves, dtype=np.int64),
    )


@njit(nogil=True, cache=True)
def _through(
    a: np.ndarray, b: np.ndarray, a_anchors: np.ndarray, b_anchors: np.ndarray, waves: Waves, pieces: Diagonals
) -> int:
    """Writes the pieces of one stretch; returns how many."""
    pieces.student[0] = pieces.teacher[0] = pieces.lengths[0] = 0
    n, x, y = 1, 0, 0
    for k in range(len(a_anchors)):
        n = _between(a, b, (x, y), (a_anchors[k], b_anchors[k]), waves, pieces, n)
        x, y = a_anchors[k], b_anchors[k]
    n = _between(a, b, (x, y), (len(a), len(b)), waves, pieces, n)
    return _append(pieces, n, len(a), len(b), 0)


@njit(nogil=True, cache=True)
def _append(pieces: Diagonals, n: int, x: int, y: int, length: int) -> int:
    """Adds a run of equal bytes; on the diagonal of the piece before, all bytes between were replaced one by one."""
    if pieces.student[n - 1] - pieces.teacher[n - 1] == x - y:
        pieces.lengths[n - 1] = x + length - pieces.student[n - 1]
        return n
    pieces.student[n], pieces.teacher[n], pieces.lengths[n] = x, y, length
    return n + 1


@njit(nogil=True, cache=True)
def _between(
    a: np.ndarray,
    b: np.ndarray,
    begin: tuple[int, int],
    end: tuple[int, int],
    waves: Waves,
    pieces: Diagonals,
    n: int,
) -> int:
    """The way from one anchor to the next. What is equal at either end needs no search."""
    (x, y), (a_end, b_end) = begin, end
    prefix = _slide(a[x:a_end], b[y:b_end], 0, 0)
    if prefix:
        n = _append(pieces, n, x, y, prefix)
        x, y = x + prefix, y + prefix
    suffix = _common_suffix(a[x:a_end], b[y:b_end])
    n = _search(a[: a_end - suffix], b[: b_end - suffix], x, y, waves, pieces, n)
    return _append(pieces, n, a_end - suffix, b_end - suffix, suffix) if suffix else n


@njit(nogil=True, cache=True)
def _common_suffix(a: np.ndarray, b: np.ndarray) -> int:
    n = 0
    while n < len(a) and n < len(b) and a[len(a) - 1 - n] == b[len(b) - 1 - n]:
        n += 1
    return n


@njit(nogil=True, cache=True)
def _slide(a: np.ndarray, b: np.ndarray, x: int, diagonal: int) -> int:
    """How many student bytes are read when equal bytes are run over from `x` on."""
    y = x - diagonal
    while x < len(a) and y < len(b) and a[x] == b[y]:
        x += 1
        y += 1
    return x


@njit(nogil=True, cache=True)
def _search(a: np.ndarray, b: np.ndarray, x: int, y: int, waves: Waves, pieces: Diagonals, n: int) -> int:
    """The way from (x, y) to both ends, block by block."""
    while x < len(a) and y < len(b):
        wave, diagonal, arrived = _spread(a[x:], b[y:], waves)
        keep = wave if arrived else wave - wave // 4
        n, to_x, to_y = _trace(waves, len(a) - x, len(b) - y, (wave, diagonal), keep, pieces, n, (x, y))
        x, y = x + to_x, y + to_y
    return n


@njit(nogil=True, cache=True)
def _spread(a: np.ndarray, b: np.ndarray, waves: Waves) -> tuple[int, int, bool]:
    """Waves from the beginning of both; the last wave, the diagonal of its best point, and whether that is the end."""
    reached, lows, highs = waves
    band = (reached.shape[1] - 2 * _MARGIN) // 2
    reached[0, :] = _NOWHERE
    reached[0, _MARGIN] = _slide(a, b, 0, 0)
    lows[0] = highs[0] = best = 0
    wave, corner = 0, len(a) - len(b)
    while wave + 1 < len(lows):
        wave += 1
        lows[wave] = max(lows[wave - 1] - 1, best - band, -len(b))
        highs[wave] = min(highs[wave - 1] + 1, best + band, len(a))
        best = _step(a, b, reached[wave - 1], lows[wave - 1], reached[wave], lows[wave], highs[wave])
        if lows[wave] <= corner <= highs[wave] and reached[wave, corner - lows[wave] + _MARGIN] == len(a):
            return wave, corner, True
    return wave, best, False


@njit(nogil=True, cache=True)
def _step(
    a: np.ndarray, b: np.ndarray, before: np.ndarray, before_low: int, after: np.ndarray, low: int, high: int
) -> int:
    """One more edit on every diagonal from `low` to `high`; returns the diagonal that has read the most bytes."""
    best, most = low, -1
    for diagonal in range(low, high + 1):
        x, _ = _enter(before, diagonal - before_low + _MARGIN, min(len(a), len(b) + diagonal))
        if x >= 0:
            x = _slide(a, b, x, diagonal)
            if 2 * x - diagonal > most:
                best, most = diagonal, 2 * x - diagonal
        after[diagonal - low + _MARGIN] = x
    last = high - low + _MARGIN
    after[0] = after[1] = after[last + 1] = after[last + 2] = _NOWHERE
    return best


@njit(nogil=True, cache=True)
def _enter(before: np.ndarray, column: int, edge: int) -> tuple[int, int]:
    """Where one more edit enters a diagonal, and from which column next to it: replace before delete before insert."""
    x, side = before[column], 0
    if x < edge:
        x += 1
    deleted, inserted = before[column - 1] + 1, before[column + 1]
    if x < deleted <= edge:
        x, side = deleted, -1
    if x < inserted <= edge:
        x, side = inserted, 1
    return x, side


@njit(nogil=True, cache=True)
def _trace(
    waves: Waves,
    a_length: int,
    b_length: int,
    last: tuple[int, int],
    keep: int,
    pieces: Diagonals,
    n: int,
    origin: tuple[int, int],
) -> tuple[int, int, int]:
    """Appends the runs of the way to wave and diagonal `last`, up to wave `keep`; returns the pieces and where it ends.

    Going back, the runs come last to first: they wait in arrays of one entry a wave.
    """
    reached, lows, _ = waves
    (wave, diagonal), to_x, to_y = last, 0, 0
    starts, lengths, diagonals = (
        np.empty(keep + 1, np.int64),
        np.empty(keep + 1, np.int64),
        np.empty(keep + 1, np.int64),
    )
    while wave >= 0:
        x, start, side = reached[wave, diagonal - lows[wave] + _MARGIN], 0, 0
        if wave:
            edge = min(a_length, b_length + diagonal)
            start, side = _enter(reached[wave - 1], diagonal - lows[wave - 1] + _MARGIN, edge)
        if wave == keep:
            to_x, to_y = x, x - diagonal
        if wave <= keep:
            starts[wave], lengths[wave], diagonals[wave] = start, x - start, diagonal
        diagonal += side
        wave -= 1
    for run in range(keep + 1):
        if lengths[run]:
            x, y = origin[0] + starts[run], origin[1] + starts[run] - diagonals[run]
            n = _append(pieces, n, x, y, lengths[run])
    return n, to_x, to_y
