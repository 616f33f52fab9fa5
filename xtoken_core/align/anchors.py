"""Where two differing texts certainly correspond: stretches of 16 bytes that each of them has exactly once.

They cut a long text with sparse edits into many small problems for the path search, and bring it back on its way after
a difference that is longer than its band. A sample of the teacher's text, every 16th position, is hashed; both texts
are rolled over it once, so the time is linear. Of the samples found once on either side, a longest chain that advances
on both is kept, as in patience diff.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

_GRAM = 16  # bytes; of natural text hardly any two such pieces are equal by chance
_SHORTEST = 256  # bytes; below it the path search is as quick alone, and sees everything
_PROBES = 8  # places of the hash table that are looked at
_BASE = np.uint64(0x9E3779B97F4A7C15)
_EMPTY = -1


class Stretches(NamedTuple):
    """Pairs of byte ranges to align, int64 [stretches] each: where they begin in each side's data, and their bytes."""

    student_begins: np.ndarray
    student_lengths: np.ndarray
    teacher_begins: np.ndarray
    teacher_lengths: np.ndarray


class Anchors(NamedTuple):
    """Places that correspond, in bytes from the beginning of their stretch, increasing on both sides."""

    offsets: np.ndarray  # int64 [stretches + 1], which places belong to each stretch
    student: np.ndarray  # int64 [anchors]
    teacher: np.ndarray


class Samples(NamedTuple):
    """The hash table over the teacher's samples; sample s lies at byte 16 * s."""

    table: np.ndarray  # int32 [power of two], a sample's number or _EMPTY
    hashes: np.ndarray  # uint64 [samples]
    student_counts: np.ndarray  # int32 [samples], how often each occurs in the student's text
    teacher_counts: np.ndarray
    places: np.ndarray  # int64 [samples], where it occurred last in the student's text


@njit(nogil=True, cache=True)
def find_anchors(student: np.ndarray, teacher: np.ndarray, stretches: Stretches) -> Anchors:
    """The anchors of each stretch of these texts (uint8); none where a side has fewer than 256 bytes."""
    n_stretches = len(stretches.student_begins)
    offsets = np.zeros(n_stretches + 1, dtype=np.int64)
    room = np.sum(np.minimum(stretches.student_lengths, stretches.teacher_lengths) // _GRAM)
    found = Anchors(offsets, np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64))
    for i in range(n_stretches):
        a = student[stretches.student_begins[i] :][: stretches.student_lengths[i]]
        b = teacher[stretches.teacher_begins[i] :][: stretches.teacher_lengths[i]]
        offsets[i + 1] = _anchor(a, b, found, offsets[i])
    return found


@njit(nogil=True, cache=True)
def _anchor(a: np.ndarray, b: np.ndarray, found: Anchors, n: int) -> int:
    """Writes the anchors of one stretch from `n` on; returns how many there are then."""
    same = _common_prefix(a, b)
    a, b = a[same:], b[same:]
    if min(len(a), len(b)) < _SHORTEST:
        return n
    samples = _sample(b)
    _roll_over(a, samples, samples.student_counts, samples.places)
    _roll_over(b, samples, samples.teacher_counts, np.empty_like(samples.places))
    once = np.flatnonzero((samples.student_counts == 1) & (samples.teacher_counts == 1))
    for k in _longest_chain(samples.places[once]):
        place, sample = samples.places[once[k]], once[k] * _GRAM
        if np.array_equal(a[place : place + _GRAM], b[sample : sample + _GRAM]):
            found.student[n], found.teacher[n] = place + same, sample + same
            n += 1
    return n


@njit(nogil=True, cache=True)
def _common_prefix(a: np.ndarray, b: np.ndarray) -> int:
    shorter = min(len(a), len(b))
    for byte in range(shorter):
        if a[byte] != b[byte]:
            return byte
    return shorter


@njit(nogil=True, cache=True)
def _sample(text: np.ndarray) -> Samples:
    n = len(text) // _GRAM
    size = 4
    while size < 4 * n:
        size *= 2
    samples = Samples(
        np.full(size, _EMPTY, dtype=np.int32),
        np.empty(n, dtype=np.uint64),
        np.zeros(n, dtype=np.int32),
        np.zeros(n, dtype=np.int32),
        np.zeros(n, dtype=np.int64),
    )
    for sample in range(n):
        value = np.uint64(0)
        for byte in text[sample * _GRAM : (sample + 1) * _GRAM]:
            value = value * _BASE + np.uint64(byte)
        samples.hashes[sample] = value
        _insert(samples.table, samples.hashes, sample)
    return samples


@njit(nogil=True, cache=True)
def _insert(table: np.ndarray, hashes: np.ndarray, sample: int) -> None:
    """Nothing where the table has an equal hash, or no place: that sample is found nowhere, and is no anchor."""
    first = _slot(hashes[sample], len(table))
    for probe in range(_PROBES):
        slot = (first + probe) & (len(table) - 1)
        if table[slot] == _EMPTY:
            table[slot] = sample
            return
        if hashes[table[slot]] == hashes[sample]:
            return


@njit(nogil=True, cache=True)
def _slot(value: np.uint64, size: int) -> int:
    mixed = (value ^ (value >> np.uint64(29))) * _BASE
    return int(mixed >> np.uint64(33)) & (size - 1)


@njit(nogil=True, cache=True)
def _roll_over(text: np.ndarray, samples: Samples, counts: np.ndarray, places: np.ndarray) -> None:
    """Counts where each sample occurs in the text, and writes down the last place."""
    table, hashes = samples.table, samples.hashes
    oldest = np.uint64(1)
    for _ in range(_GRAM):
        oldest *= _BASE
    value = np.uint64(0)
    for end in range(len(text)):
        value = value * _BASE + np.uint64(text[end])
        if end >= _GRAM:
            value -= oldest * np.uint64(text[end - _GRAM])
        if end >= _GRAM - 1:
            sample = _look_up(table, hashes, value)
            if sample != _EMPTY:
                counts[sample] += 1
                places[sample] = end - _GRAM + 1


@njit(nogil=True, cache=True)
def _look_up(table: np.ndarray, hashes: np.ndarray, value: np.uint64) -> int:
    first = _slot(value, len(table))
    for probe in range(_PROBES):
        sample = table[(first + probe) & (len(table) - 1)]
        if sample == _EMPTY or hashes[sample] == value:
            return sample
    return _EMPTY


@njit(nogil=True, cache=True)
def _longest_chain(values: np.ndarray) -> np.ndarray:
    """The indices of a longest strictly increasing subsequence, in n log n."""
    n = len(values)
    ends = np.empty(n, dtype=np.int64)  # of all chains of length l + 1, the index where the lowest ends
    end_values = np.empty(n, dtype=np.int64)
    before = np.empty(n, dtype=np.int64)
    length = 0
    for i in range(n):
        at = np.searchsorted(end_values[:length], values[i])
        ends[at], end_values[at] = i, values[i]
        before[i] = ends[at - 1] if at else _EMPTY
        length = max(length, at + 1)
    chain = np.empty(length, dtype=np.int64)
    i = ends[length - 1] if length else _EMPTY
    for at in range(length - 1, -1, -1):
        chain[at] = i
        i = before[i]
    return chain
