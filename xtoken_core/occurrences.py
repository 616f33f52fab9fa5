"""How many times each 64-bit hash has come before, for more hashes than a dict has room for.

A dict of Python numbers takes about 100 bytes an entry; this table takes 12 to 40: 8 for the hash and 4 for the count,
at most 5/8 full, doubled when it is.
"""

import numpy as np
from numba import njit

_FIRST_SLOTS = 1 << 12  # a power of two, so that a mask wraps around


class Occurrences:
    """Counts hashes. Evenly distributed ones: they are their own place in the table.

    What is counted is taken back unless `keep` is called: files of the corpus count when they were read to their end.
    Until then each of their hashes takes 8 bytes more, and a corpus of many files needs no copy of the table for each.
    """

    def __init__(self) -> None:
        self._hashes = np.zeros(_FIRST_SLOTS, dtype=np.uint64)
        self._counts = np.zeros(_FIRST_SLOTS, dtype=np.uint32)  # one more than the times; 0 marks a free slot
        self._used = 0
        self._not_kept: list[np.ndarray] = []

    def number(self, hashes: np.ndarray) -> np.ndarray:
        """How often each of `hashes` (uint64 [n]) was seen before, here and in earlier calls; uint32 [n]."""
        while 8 * (self._used + len(hashes)) > 5 * len(self._hashes):
            self._grow()
        wanted = np.array(hashes, dtype=np.uint64)
        numbers, added = _count(self._hashes, self._counts, wanted)
        self._used += added
        self._not_kept.append(wanted)
        return numbers

    def keep(self) -> None:
        """What was counted until now is not taken back any more."""
        self._not_kept.clear()

    def take_back(self) -> None:
        """Be as at the last `keep`."""
        for hashes in self._not_kept:
            _uncount(self._hashes, self._counts, hashes)
        self._not_kept.clear()

    def _grow(self) -> None:
        hashes = np.zeros(2 * len(self._hashes), dtype=np.uint64)
        counts = np.zeros(len(hashes), dtype=np.uint32)
        _move(self._hashes, self._counts, hashes, counts)
        self._hashes, self._counts = hashes, counts


@njit(nogil=True, cache=True)
def _slot(hashes: np.ndarray, counts: np.ndarray, wanted: np.uint64) -> np.uint64:
    """Where `wanted` is, or the free slot for it."""
    last = np.uint64(len(hashes) - 1)
    slot = wanted & last
    while counts[slot] and hashes[slot] != wanted:
        slot = (slot + np.uint64(1)) & last
    return slot


@njit(nogil=True, cache=True)
def _count(hashes: np.ndarray, counts: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, int]:
    numbers = np.empty(len(wanted), np.uint32)
    added = 0
    for i in range(len(wanted)):
        slot = _slot(hashes, counts, wanted[i])
        if counts[slot] == 0:
            hashes[slot], counts[slot] = wanted[i], 1
            added += 1
        numbers[i] = counts[slot] - 1
        counts[slot] += 1
    return numbers, added


@njit(nogil=True, cache=True)
def _uncount(hashes: np.ndarray, counts: np.ndarray, wanted: np.ndarray) -> None:
    """The slots stay taken: hashes that came after them may lie behind them."""
    for i in range(len(wanted)):
        counts[_slot(hashes, counts, wanted[i])] -= 1


@njit(nogil=True, cache=True)
def _move(hashes: np.ndarray, counts: np.ndarray, to_hashes: np.ndarray, to_counts: np.ndarray) -> None:
    for old in range(len(hashes)):
        if counts[old]:
            slot = _slot(to_hashes, to_counts, hashes[old])
            to_hashes[slot], to_counts[slot] = hashes[old], counts[old]
