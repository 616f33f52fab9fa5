"""What kind of text each token of a vocabulary spells: two tokenizers differ by kinds of text, not at random.

Spaces beside a word or number say nothing about its kind; they are looked at where there is nothing else.
"""

import unicodedata
from enum import StrEnum
from functools import cache

import numpy as np
from numba import njit

from xtoken_core.ragged import Ragged
from xtoken_core.text.scripts import SCRIPTS, dominant_scripts
from xtoken_core.vocabulary import TokenKind, Vocabulary


class TokenClass(StrEnum):
    """The classes, in the order in which they are shown; each token is in one."""

    ONE_DIGIT = "one-digit numbers"
    TWO_DIGITS = "two-digit numbers"
    THREE_DIGITS = "three-digit numbers"
    OTHER_DIGITS = "other digits"  # longer numbers, and digits of other scripts
    ASCII_WORDS = "ASCII words"
    CODE = "code-like"  # ASCII letters, digits and any signs mixed in one token
    PUNCTUATION = "punctuation"  # of any script, with symbols and control characters
    WHITESPACE = "white space"
    CJK = "CJK"  # mostly Han, Kana or Hangul
    OTHER_SCRIPTS = "other scripts"  # other letters beyond ASCII, those of Latin included
    EMOJI = "emoji"
    PARTIAL = "partial characters"  # bytes that are no UTF-8 by themselves
    SPECIAL = "special"
    UNUSED = "unused"  # ids without a token


CLASSES = tuple(TokenClass)
"""`token_classes` gives places in this."""

# What characters a token holds, one bit each. Joiners and variation selectors have none.
_SPACE, _DIGIT, _OTHER_DIGIT, _LETTER, _SIGN, _SCRIPT, _EMOJI, _INVALID = 1, 2, 4, 8, 16, 32, 64, 128
_BY_CATEGORY = {"L": _SCRIPT, "M": _SCRIPT, "N": _OTHER_DIGIT, "P": _SIGN, "S": _SIGN, "Z": _SPACE, "C": _SIGN}
_BY_CHARACTERS = {
    "\t\n\v\f\r": _SPACE,
    "0123456789": _DIGIT,
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ": _LETTER,
    "\u200d\ufe0e\ufe0f\u20e3": 0,
}
_EMOJI_RANGES = ((0x2600, 0x27BF), (0x2B1B, 0x2B1C), (0x2B50, 0x2B55), (0x1F000, 0x1FAFF))
_CJK_SCRIPTS = [SCRIPTS.index(script) for script in ("Han", "Kana", "Hangul")]


def token_classes(vocabulary: Vocabulary) -> np.ndarray:
    """For each id the place of its class in `CLASSES`, int8 [V]."""
    found, digits = _read_tokens(vocabulary.data, vocabulary.offsets, _character_bits())
    scripts = dominant_scripts(Ragged(vocabulary.data, vocabulary.offsets))
    held = found & ~np.uint8(_SPACE)
    tests = {
        TokenClass.SPECIAL: vocabulary.kind == TokenKind.SPECIAL,
        TokenClass.UNUSED: vocabulary.lengths == 0,
        TokenClass.PARTIAL: held & _INVALID > 0,
        TokenClass.EMOJI: held & _EMOJI > 0,
        TokenClass.CJK: (held & _SCRIPT > 0) & np.isin(scripts, _CJK_SCRIPTS),
        TokenClass.OTHER_SCRIPTS: held & _SCRIPT > 0,
        TokenClass.ONE_DIGIT: (held == _DIGIT) & (digits == 1),
        TokenClass.TWO_DIGITS: (held == _DIGIT) & (digits == 2),
        TokenClass.THREE_DIGITS: (held == _DIGIT) & (digits == 3),
        TokenClass.OTHER_DIGITS: (held > 0) & (held & ~np.uint8(_DIGIT | _OTHER_DIGIT) == 0),
        TokenClass.ASCII_WORDS: held == _LETTER,
        TokenClass.WHITESPACE: found == _SPACE,
        TokenClass.PUNCTUATION: held & ~np.uint8(_SIGN) == 0,
        TokenClass.CODE: held > 0,
    }
    return np.select([*tests.values()], [CLASSES.index(name) for name in tests]).astype(np.int8)


@cache
def _character_bits() -> np.ndarray:
    """The bits of each code point, uint8 [0x110000]."""
    bits = np.array([_BY_CATEGORY[unicodedata.category(chr(point))[0]] for point in range(0x110000)], dtype=np.uint8)
    for first, last in _EMOJI_RANGES:
        bits[first : last + 1] = _EMOJI
    for characters, bit in _BY_CHARACTERS.items():
        bits[[ord(character) for character in characters]] = bit
    return bits


@njit(nogil=True, cache=True)
def _read_tokens(data: np.ndarray, offsets: np.ndarray, bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each token the bits of all its characters, uint8 [V], and the number of its ASCII digits, int64 [V]."""
    found = np.zeros(len(offsets) - 1, dtype=np.uint8)
    digits = np.zeros(len(offsets) - 1, dtype=np.int64)
    for token in range(len(offsets) - 1):
        at, end = offsets[token], offsets[token + 1]
        while at < end:
            length = _length(data, at, end)
            if length == 0:
                found[token] |= np.uint8(128)
                break
            point = _point(data, at, length)
            found[token] |= bits[point]
            digits[token] += 0x30 <= point <= 0x39
            at += length
    return found, digits


@njit(nogil=True, cache=True)
def _length(data: np.ndarray, at: int, end: int) -> int:
    """Bytes of the UTF-8 character at `at`, 0 where there is none."""
    lead = data[at]
    length = 1 if lead < 0x80 else 2 if 0xC2 <= lead < 0xE0 else 3 if 0xE0 <= lead < 0xF0 else 4
    if 0x80 <= lead < 0xC2 or lead > 0xF4 or at + length > end:
        return 0
    for following in range(at + 1, at + length):
        if data[following] & 0xC0 != 0x80:
            return 0
    point = _point(data, at, length)
    is_overlong = length > 2 and point < (0x800 if length == 3 else 0x10000)
    return 0 if is_overlong or 0xD800 <= point < 0xE000 or point > 0x10FFFF else length


@njit(nogil=True, cache=True)
def _point(data: np.ndarray, at: int, length: int) -> int:
    """The code point that these bytes stand for."""
    point = np.int64(data[at])
    if length > 1:
        point &= 0x7F >> length
    for following in range(at + 1, at + length):
        point = point << 6 | np.int64(data[following]) & 0x3F
    return int(point)
