"""The script that most characters of a text belong to: a language tag that needs no model and no network.

The ranges are those blocks of Unicode that hold the letters of widely used scripts. Digits, punctuation, symbols and
emoji belong to no script; letters outside of the ranges are counted together as "Other".
"""

import numpy as np
from numba import njit

from xtoken_core.ragged import Ragged

COMMON = "Common"  # Unicode's name for what all scripts share
OTHER = "Other"

_COMMON_RANGES = (
    (0x00, 0x40), (0x5B, 0x60), (0x7B, 0xA9), (0xAB, 0xB9), (0xBB, 0xBF), (0xD7, 0xD7), (0xF7, 0xF7), (0x2B0, 0x36F),
    (0x2000, 0x2BFF), (0x2E00, 0x2E7F), (0x3000, 0x3004), (0x3008, 0x3020), (0x3030, 0x3037), (0x3200, 0x33FF),
    (0x4DC0, 0x4DFF), (0xD800, 0xF8FF), (0xFE00, 0xFE2F), (0xFE50, 0xFE6F), (0xFEFF, 0xFEFF), (0xFF00, 0xFF20),
    (0xFF3B, 0xFF40), (0xFF5B, 0xFF65), (0xFFE0, 0xFFFF), (0x1D000, 0x1D7FF), (0x1F000, 0x1FAFF), (0xE0000, 0x10FFFF),
)  # fmt: skip
_RANGES = {
    "Latin": (
        (0x41, 0x5A), (0x61, 0x7A), (0xAA, 0xAA), (0xBA, 0xBA), (0xC0, 0xD6), (0xD8, 0xF6), (0xF8, 0x2AF),
        (0x1D00, 0x1DBF), (0x1E00, 0x1EFF), (0x2160, 0x2188), (0x2C60, 0x2C7F),
        (0xA720, 0xA7FF), (0xFB00, 0xFB06), (0xFF21, 0xFF3A), (0xFF41, 0xFF5A),
    ),
    "Greek": ((0x370, 0x3FF), (0x1F00, 0x1FFF)),
    "Cyrillic": ((0x400, 0x52F), (0x1C80, 0x1C8F), (0x1D2B, 0x1D2B), (0x2DE0, 0x2DFF), (0xA640, 0xA69F)),
    "Armenian": ((0x530, 0x58F),),
    "Hebrew": ((0x590, 0x5FF), (0xFB1D, 0xFB4F)),
    "Arabic": ((0x600, 0x6FF), (0x750, 0x77F), (0x870, 0x8FF), (0xFB50, 0xFDFF), (0xFE70, 0xFEFC)),
    "Devanagari": ((0x900, 0x97F), (0xA8E0, 0xA8FF)),
    "Bengali": ((0x980, 0x9FF),),
    "Gurmukhi": ((0xA00, 0xA7F),),
    "Gujarati": ((0xA80, 0xAFF),),
    "Tamil": ((0xB80, 0xBFF),),
    "Telugu": ((0xC00, 0xC7F),),
    "Kannada": ((0xC80, 0xCFF),),
    "Malayalam": ((0xD00, 0xD7F),),
    "Sinhala": ((0xD80, 0xDFF),),
    "Thai": ((0xE00, 0xE7F),),
    "Lao": ((0xE80, 0xEFF),),
    "Tibetan": ((0xF00, 0xFFF),),
    "Myanmar": ((0x1000, 0x109F), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F)),
    "Georgian": ((0x10A0, 0x10FF), (0x1C90, 0x1CBF), (0x2D00, 0x2D2F)),
    "Ethiopic": ((0x1200, 0x139F), (0x2D80, 0x2DDF), (0xAB00, 0xAB2F)),
    "Khmer": ((0x1780, 0x17FF), (0x19E0, 0x19FF)),
    "Han": (
        (0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3021, 0x302F), (0x3038, 0x303F), (0x3400, 0x4DBF), (0x4E00, 0x9FFF),
        (0xF900, 0xFAFF), (0x20000, 0x323AF),
    ),
    "Kana": ((0x3040, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F), (0x1AFF0, 0x1B16F)),
    "Hangul": ((0x1100, 0x11FF), (0x3130, 0x318F), (0xA960, 0xA97F), (0xAC00, 0xD7FF), (0xFFA0, 0xFFDC)),
}  # fmt: skip

SCRIPTS: tuple[str, ...] = (COMMON, *_RANGES, OTHER)
"""The names that `dominant_scripts` gives the numbers of."""


def _table() -> np.ndarray:
    """The script of each code point, uint8 [0x110000]."""
    table = np.full(0x110000, SCRIPTS.index(OTHER), dtype=np.uint8)
    for script, ranges in {COMMON: _COMMON_RANGES, **_RANGES}.items():
        for first, last in ranges:
            table[first : last + 1] = SCRIPTS.index(script)
    return table


_SCRIPT_OF = _table()


def dominant_scripts(texts: Ragged) -> np.ndarray:
    """For each text (UTF-8, uint8) the number in `SCRIPTS` of the script with most characters, int64 [texts].

    "Common" only where no character has a script; of two scripts with as many characters the first in `SCRIPTS`.
    """
    counts = _count(texts.values, texts.offsets, _SCRIPT_OF, len(SCRIPTS))
    counts[:, 0] = 0
    return counts.argmax(axis=1)


@njit(nogil=True, cache=True)
def _count(data: np.ndarray, offsets: np.ndarray, script_of: np.ndarray, scripts: int) -> np.ndarray:
    """Characters by script, int64 [texts, scripts]; a character that is cut off at the end of a text does not count."""
    counts = np.zeros((len(offsets) - 1, scripts), dtype=np.int64)
    for text in range(len(offsets) - 1):
        at, end = offsets[text], offsets[text + 1]
        while at < end:
            lead = np.int64(data[at])
            length = 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            if at + length > end:
                break
            point = lead if length == 1 else lead & (0x7F >> length)
            for following in range(at + 1, at + length):
                point = point << 6 | np.int64(data[following]) & 0x3F
            if point < len(script_of):
                counts[text, script_of[point]] += 1
            at += length
    return counts
