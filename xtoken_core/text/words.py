"""Texts -> the words that documents are compared by, as hashes; case, white space and punctuation make no difference.

A word is a run of letters, digits and marks. In scripts that write no spaces (Chinese, Japanese, Thai, Lao, Burmese,
Khmer) and outside of the basic plane (emoji) every character is one by itself.
"""

import functools
import unicodedata
from dataclasses import dataclass

import numpy as np
from numba import njit

from xtoken_core.ragged import Ragged

_BASIC_PLANE = 0x10000
_WITHOUT_SPACES = (
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF)),  # Thai and Lao, Burmese, Khmer
    *((0x3040, 0x30FF), (0x3100, 0x312F), (0x31A0, 0x31BF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F)),  # kana, bopomofo
    *((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF)),  # Chinese characters
)
# What a character is; the compiled functions know them as these numbers.
_SEPARATOR, _OF_A_WORD, _BY_ITSELF = 0, 1, 2
_LETTERS = ("L", "N", "M")  # first letters of the categories of letters, numbers and marks


@dataclass(frozen=True, eq=False)
class Words:
    """The words of some texts.

    hashes: uint64, a row per text; odd for a word, even for a character by itself. ends: uint32 [total], where each
    word ends, in bytes from the begin of its text.
    """

    hashes: Ragged
    ends: np.ndarray

    def ends_of(self, text: int) -> np.ndarray:
        """The ends of one text's words."""
        return self.ends[self.hashes.offsets[text] : self.hashes.offsets[text + 1]]


def words_of(texts: Ragged) -> Words:
    """The words of each text (valid UTF-8, uint8)."""
    kinds, folded = _characters()
    hashes, ends, offsets = _split(texts.values, texts.offsets, kinds, folded)
    return Words(Ragged(hashes, offsets), ends)


@functools.cache
def _characters() -> tuple[np.ndarray, np.ndarray]:
    """Of each character of the basic plane what it is (uint8), and its lower case where that is one such (uint16)."""
    kinds = np.zeros(_BASIC_PLANE, dtype=np.uint8)
    folded = np.arange(_BASIC_PLANE, dtype=np.uint16)
    for code in range(_BASIC_PLANE):
        character = chr(code)
        kinds[code] = _OF_A_WORD if unicodedata.category(character)[0] in _LETTERS else _SEPARATOR
        lower = character.lower()
        if len(lower) == 1 and ord(lower) < _BASIC_PLANE:
            folded[code] = ord(lower)
    for first, last in _WITHOUT_SPACES:
        kinds[first : last + 1] *= _BY_ITSELF
    return kinds, folded


@njit(nogil=True, cache=True)
def _split(
    values: np.ndarray, offsets: np.ndarray, kinds: np.ndarray, folded: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The words' hashes, their ends and the offsets of the texts' words."""
    texts = len(offsets) - 1
    most = (offsets[texts] - offsets[0] + texts + 1) // 2 + 1  # "a b c": a word takes two bytes, the last one
    hashes = np.empty(most, np.uint64)
    ends = np.empty(most, np.uint32)
    word_offsets = np.zeros(texts + 1, np.int64)
    words = 0
    for text in range(texts):
        words = _split_one(values[offsets[text] : offsets[text + 1]], kinds, folded, hashes, ends, words)
        word_offsets[text + 1] = words
    return hashes[:words], ends[:words], word_offsets


@njit(nogil=True, cache=True)
def _split_one(
    text: np.ndarray, kinds: np.ndarray, folded: np.ndarray, hashes: np.ndarray, ends: np.ndarray, words: int
) -> int:
    """Appends the words of a text after the `words` that are there, and returns how many are then.

    Within a word the hash goes on character by character (FNV-1a), a multiplication each.
    """
    empty = np.uint64(0xCBF29CE484222325)
    state, position = empty, 0
    while position < len(text):
        code, size = _character(text, position)
        kind = kinds[code] if code < 0x10000 else 2
        if kind == 1:
            state = (state ^ np.uint64(folded[code])) * np.uint64(0x100000001B3)
        else:
            if state != empty:
                hashes[words], ends[words] = _mixed(state) | np.uint64(1), position
                state, words = empty, words + 1
            if kind == 2:
                hashes[words], ends[words] = _mixed(np.uint64(code)) & ~np.uint64(1), position + size
                words += 1
        position += size
    if state != empty:
        hashes[words], ends[words] = _mixed(state) | np.uint64(1), len(text)
        words += 1
    return words


@njit(nogil=True, cache=True)
def _character(text: np.ndarray, position: int) -> tuple[np.int64, int]:
    """Code point and bytes of the character that begins here; text that is cut short in it ends with a separator."""
    first = np.int64(text[position])
    if first < 0x80:
        return first, 1
    size = 2 if first < 0xE0 else 3 if first < 0xF0 else 4
    if position + size > len(text):
        return np.int64(0), 1
    code = first & (0x7F >> size)
    for following in range(1, size):
        code = code << 6 | np.int64(text[position + following]) & 0x3F
    return code, size


@njit(nogil=True, cache=True)
def _mixed(value: np.uint64) -> np.uint64:
    """Spreads a value over 64 bits (the finalizer of splitmix64, Steele et al. 2014)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
