"""Words -> hashes of runs of words: what near-duplicates share most of, and copied passages all of."""

from dataclasses import dataclass

import numpy as np
from numba import njit

from xtoken_core.ragged import Ragged
from xtoken_core.text.words import Words


@dataclass(frozen=True)
class Run:
    """How long a run is, whatever the script: it ends where its words weigh `weight`.

    A word weighs `word_weight`, a character that is a word by itself one. A run may begin at any word, so that equal
    passages have equal runs wherever they stand.
    """

    weight: int
    word_weight: int


def ngrams(words: Words, run: Run) -> Ragged:
    """The hashes (uint64) of all runs of each text, run i from word i on; a text that weighs less is one run, whole.

    The hash is a polynomial in the words' hashes modulo 2^64 (Rabin and Karp), mixed.
    """
    return Ragged(*_rolled(words.hashes.values, words.hashes.offsets, run.weight, run.word_weight))


def weights(words: Words, word_weight: int) -> np.ndarray:
    """What each text weighs, int64 [texts]."""
    sums = np.concatenate([[0], np.cumsum(_weight_of_each(words.hashes.values, word_weight))])
    return sums[words.hashes.offsets[1:]] - sums[words.hashes.offsets[:-1]]


def run_bytes(words: Words, text: int, first: int, run: Run) -> tuple[int, int]:
    """The byte range of the run that begins at word `first` of a text, from the end of the word before."""
    ends, weighed = words.ends_of(text), np.cumsum(_weight_of_each(words.hashes.row(text)[first:], run.word_weight))
    last = first + min(int(np.searchsorted(weighed, run.weight)), len(weighed) - 1)
    return int(ends[first - 1]) if first else 0, int(ends[last])


def _weight_of_each(hashes: np.ndarray, word_weight: int) -> np.ndarray:
    return np.where(hashes & np.uint64(1), word_weight, 1)


@njit(nogil=True, cache=True)
def _rolled(hashes: np.ndarray, offsets: np.ndarray, weight: int, word_weight: int) -> tuple[np.ndarray, np.ndarray]:
    runs = np.empty(len(hashes), np.uint64)
    run_offsets = np.zeros(len(offsets), np.int64)
    count = 0
    for text in range(len(offsets) - 1):
        count += _roll(hashes[offsets[text] : offsets[text + 1]], weight, word_weight, runs[count:])
        run_offsets[text + 1] = count
    return runs[:count], run_offsets


@njit(nogil=True, cache=True)
def _roll(hashes: np.ndarray, weight: int, word_weight: int, runs: np.ndarray) -> int:
    """The runs of one text and how many they are.

    `power` is base to the number of words in the run; base is odd, so that it has an inverse.
    """
    base, inverse = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xF1DE83E19937733D)
    state, power = np.uint64(0), np.uint64(1)
    first = held = 0
    for last in range(len(hashes)):
        state, power = state * base + hashes[last], power * base
        held += word_weight if hashes[last] & np.uint64(1) else 1
        while held >= weight:
            runs[first] = _mixed(state)
            power *= inverse
            state -= hashes[first] * power
            held -= word_weight if hashes[first] & np.uint64(1) else 1
            first += 1
    if first == 0 and len(hashes):
        runs[0], first = _mixed(state), 1
    return first


@njit(nogil=True, cache=True)
def _mixed(value: np.uint64) -> np.uint64:
    """Spreads a value over 64 bits (the finalizer of splitmix64, Steele et al. 2014)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
