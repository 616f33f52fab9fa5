"""Which script a text is in: against the names that Unicode gives its characters."""

import unicodedata
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtoken_core.ragged import Ragged
from xtoken_core.text.scripts import COMMON, OTHER, SCRIPTS, dominant_scripts

# The first word of a letter's name, where it is not the script's own.
NAMES = {"CJK": "Han", "HIRAGANA": "Kana", "KATAKANA": "Kana"}


def scripts_of(texts: list[str]) -> list[str]:
    rows = Ragged.from_lists([np.frombuffer(text.encode(), np.uint8) for text in texts], np.uint8)
    return [SCRIPTS[number] for number in dominant_scripts(rows)]


def named_script(letter: str) -> str:
    word = unicodedata.name(letter, "?").split()[0].split("-")[0]
    name = NAMES.get(word, word.capitalize())
    return name if name in SCRIPTS else OTHER


def test_letters_are_of_the_script_that_their_names_say() -> None:
    letters = [chr(point) for point in range(0x3000) if unicodedata.category(chr(point)) in ("Lu", "Ll", "Lo")]
    letters += [chr(point) for point in range(0x3041, 0x3097)] + list("一鿕𠀀가힣カ")
    found = dict(zip(letters, scripts_of(letters), strict=True))
    wrong = {letter: script for letter, script in found.items() if script != named_script(letter)}
    assert len(wrong) < 0.03 * len(letters), Counter(map(unicodedata.name, wrong))
    widely_used = ("Latin", "Cyrillic", "Han", "Kana", "Hangul")
    assert [letter for letter in wrong if named_script(letter) in widely_used] == []


@pytest.mark.parametrize("text", ["", "1234 + 5", "!?., -\n\t", "😀👍🏽 ❤️", "→ ∑ €", "、。「」", "１２"])
def test_digits_punctuation_and_emoji_have_no_script(text: str) -> None:
    assert scripts_of([text]) == [COMMON]


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("def f(x): return x  # коммент", "Latin"),
        ("Привет, world", "Cyrillic"),
        ("これは漢字です", "Kana"),
        ("這是漢字 ok", "Han"),
        ("안녕하세요", "Hangul"),
        ("नमस्ते", "Devanagari"),
        ("مرحبا 123", "Arabic"),
        ("שלום", "Hebrew"),
        ("สวัสดี", "Thai"),
        ("ᏣᎳᎩ", OTHER),
    ],
)
def test_the_script_with_most_letters_counts(text: str, script: str) -> None:
    assert scripts_of([text]) == [script]


@given(st.lists(st.text(), max_size=5))
def test_a_text_counts_by_itself_whatever_is_around_it(texts: list[str]) -> None:
    assert scripts_of(texts) == [scripts_of([text])[0] for text in texts]


def test_bytes_that_are_cut_off_do_not_count() -> None:
    cut = np.frombuffer("aбб".encode()[:-1], np.uint8)
    assert SCRIPTS[dominant_scripts(Ragged(cut, np.array([0, len(cut)])))[0]] == "Latin"
