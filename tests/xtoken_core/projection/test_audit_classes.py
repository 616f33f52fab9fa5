"""The class of every kind of token, against Python's own view of text."""

import unicodedata

import numpy as np
import pytest
from fakes import fake_vocabulary, reproducible
from hypothesis import given
from hypothesis import strategies as st

from xtoken_core.projection.audit.classes import CLASSES, TokenClass, token_classes


def class_of(token: bytes | str | None) -> TokenClass:
    return CLASSES[token_classes(fake_vocabulary([token]))[0]]


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (b"7", TokenClass.ONE_DIGIT),
        (b" 7", TokenClass.ONE_DIGIT),
        (b"42", TokenClass.TWO_DIGITS),
        (b"007", TokenClass.THREE_DIGITS),
        (b" 123", TokenClass.THREE_DIGITS),
        (b"2024", TokenClass.OTHER_DIGITS),
        ("٣".encode(), TokenClass.OTHER_DIGITS),
        ("１２".encode(), TokenClass.OTHER_DIGITS),
        ("½".encode(), TokenClass.OTHER_DIGITS),
        (b" The", TokenClass.ASCII_WORDS),
        (b"HTTPServer", TokenClass.ASCII_WORDS),
        (b"_name", TokenClass.CODE),
        (b"x86", TokenClass.CODE),
        (b"don't", TokenClass.CODE),
        (b" ()", TokenClass.PUNCTUATION),
        ("、".encode(), TokenClass.PUNCTUATION),
        (b"\x00", TokenClass.PUNCTUATION),
        ("\u200d".encode(), TokenClass.PUNCTUATION),
        (b"    ", TokenClass.WHITESPACE),
        (b"\r\n\t", TokenClass.WHITESPACE),
        ("\u3000".encode(), TokenClass.WHITESPACE),
        ("中文".encode(), TokenClass.CJK),
        (" 한국".encode(), TokenClass.CJK),
        ("ひらカナ。".encode(), TokenClass.CJK),
        (" café".encode(), TokenClass.OTHER_SCRIPTS),
        ("привет".encode(), TokenClass.OTHER_SCRIPTS),
        ("\u0301".encode(), TokenClass.OTHER_SCRIPTS),
        ("😀".encode(), TokenClass.EMOJI),
        (" ❤️".encode(), TokenClass.EMOJI),
        ("👩\u200d👧".encode(), TokenClass.EMOJI),
        (b"\xe4\xb8", TokenClass.PARTIAL),
        (b" \x80", TokenClass.PARTIAL),
        (b"a\xc3", TokenClass.PARTIAL),
        ("<s>", TokenClass.SPECIAL),
        (None, TokenClass.UNUSED),
    ],
)
def test_the_class_of_a_token(token: bytes | str | None, expected: TokenClass) -> None:
    assert class_of(token) == expected


# Characters at the limits of each length, what is just beyond them, and parts of characters.
AT_THE_LIMITS = (
    "61 7f c280 c0af c1 e0a080 e09fbf ed9fbf eda080 efbfbf f0908080 f08fbfbf f48fbfbf f4908080 f5 80 e4 e4b8"
)
ALMOST_UTF8 = st.lists(st.sampled_from([*map(bytes.fromhex, AT_THE_LIMITS.split())]), min_size=1, max_size=4)


@reproducible
@given(st.binary(min_size=1, max_size=6) | ALMOST_UTF8.map(b"".join))
def test_partial_characters_are_what_python_cannot_decode(token: bytes) -> None:
    try:
        token.decode()
        is_text = True
    except UnicodeDecodeError:
        is_text = False
    assert (class_of(token) == TokenClass.PARTIAL) == (not is_text)


def by_definition(text: str) -> TokenClass | None:
    """The class of what needs no table of scripts."""
    held = [character for character in text if not character.isspace()]
    if not held:
        return TokenClass.WHITESPACE
    if all(character in "0123456789" for character in held):
        numbers = (TokenClass.ONE_DIGIT, TokenClass.TWO_DIGITS, TokenClass.THREE_DIGITS)
        return numbers[len(held) - 1] if len(held) <= 3 else TokenClass.OTHER_DIGITS
    if all(character.isascii() and character.isalpha() for character in held):
        return TokenClass.ASCII_WORDS
    if text.isascii():
        is_sign = [not character.isalnum() for character in held]
        return TokenClass.PUNCTUATION if all(is_sign) else TokenClass.CODE
    if all(unicodedata.category(character)[0] == "N" for character in held):
        return TokenClass.OTHER_DIGITS
    return None


ASCII = st.text(st.sampled_from("aZ09_( \t\n.'"), min_size=1, max_size=6)


@reproducible
@given(st.lists(ASCII | st.text(st.sampled_from("1٣½²"), min_size=1, max_size=3), min_size=1, max_size=8))
def test_whole_vocabularies_of_plain_text(texts: list[str]) -> None:
    found = token_classes(fake_vocabulary([text.encode() for text in texts]))
    assert found.dtype == np.int8
    assert [CLASSES[place] for place in found] == [by_definition(text) for text in texts]


def test_an_empty_vocabulary_has_no_classes() -> None:
    assert token_classes(fake_vocabulary([])).tolist() == []
