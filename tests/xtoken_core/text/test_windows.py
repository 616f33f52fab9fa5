from itertools import pairwise
from pydoc_data.topics import topics

import numpy as np
import pytest
from fakes import reproducible
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from xtoken_core.text.windows import window_ends
from xtoken_core.tokenizer import Tokenizer

PIECES = [*"aZ7é中😀 .\n\t", "\u00a0 ", "\u3000 "]
documents = st.lists(st.sampled_from(PIECES), max_size=80).map("".join).map(str.encode)

CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
WORD = r"[^\r\n\p{L}\p{N}]?"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
# As published with the tokenizers.
PATTERNS = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "llama3": rf"{CONTRACTION}|{WORD}\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{SPACES}",
    "qwen2": rf"{CONTRACTION}|{WORD}\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{SPACES}",
    "o200k": rf"{WORD}{UPPER}*{LOWER}+{CONTRACTION}?|{WORD}{UPPER}+{LOWER}*{CONTRACTION}?"
    rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{SPACES}",
}


def slices(document: bytes, max_bytes: int) -> list[bytes]:
    return [document[start:end] for start, end in pairwise([0, *window_ends(document, max_bytes)])]


def is_good_place(document: bytes, i: int) -> bool:
    """A space after anything but white space, a newline after an ASCII letter or digit."""
    if document[i : i + 1] == b" ":
        return not document[:i].decode()[-1].isspace()
    return document[i : i + 1] == b"\n" and document[i - 1 : i].isalnum()


def is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def brute_force_ends(document: bytes, max_bytes: int) -> list[int]:
    ends = [0]
    while len(document) - ends[-1] > max_bytes:
        reachable = range(ends[-1] + 1, ends[-1] + max_bytes + 1)
        good = [i for i in reachable if is_good_place(document, i)]
        between_characters = [i for i in reachable if is_utf8(document[:i])]
        ends.append(max(good or between_characters))
    return [*ends[1:], len(document)]


@reproducible
@given(documents, st.integers(4, 24))
def test_windows_end_at_the_last_good_place_else_between_characters(document: bytes, max_bytes: int) -> None:
    assert window_ends(document, max_bytes) == brute_force_ends(document, max_bytes)


def chosen_places(document: bytes, max_bytes: int) -> list[int]:
    """Where windows end although more characters would have fitted: not for want of a good place."""
    ends = window_ends(document, max_bytes)[:-1]
    fitting = [max(i for i in range(start + max_bytes + 1) if is_utf8(document[:i])) for start in [0, *ends[:-1]]]
    return [end for end, longest in zip(ends, fitting, strict=False) if end < longest]


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS.keys())
@reproducible
@given(document=documents, max_bytes=st.integers(4, 24))
def test_real_pre_tokenizers_split_wherever_a_place_was_chosen(pattern: str, document: bytes, max_bytes: int) -> None:
    pieces = pre_tokenizers.Split(Regex(pattern), "isolated").pre_tokenize_str(document.decode())
    splits = {len(document.decode()[:start].encode()) for _, (start, _) in pieces}
    assert set(chosen_places(document, max_bytes)) <= splits


@reproducible
@given(documents, st.integers(4, 24))
def test_no_text_is_lost_and_every_window_is_short_text(document: bytes, max_bytes: int) -> None:
    windows = slices(document, max_bytes)
    assert b"".join(windows) == document
    assert all(len(window) <= max_bytes and is_utf8(window) for window in windows)
    assert all(windows) or document == b""


@pytest.mark.parametrize(
    ("document", "windows"),
    [
        (b"", [b""]),
        (b"short", [b"short"]),
        (b"exactly8", [b"exactly8"]),
        (b"one two three", [b"one two", b" three"]),
        (b"one   two", [b"one", b"   two"]),
        (b"one\ntwo.\nx", [b"one", b"\ntwo.\nx"]),
        (b"a b).\nword", [b"a", b" b).\nwor", b"d"]),
        (b"0123456789", [b"01234567", b"89"]),
        ("ééééé".encode(), ["éééé".encode(), "é".encode()]),
        ("a中中中".encode(), ["a中中".encode(), "中".encode()]),
        (b"          ", [b"        ", b"  "]),
        ("a b\u00a0 cde".encode(), [b"a", " b\u00a0 cde".encode()]),
        ("a b\u3000 cd".encode(), [b"a", " b\u3000 cd".encode()]),
    ],
)
def test_cuts_at_eight_bytes(document: bytes, windows: list[bytes]) -> None:
    assert slices(document, 8) == windows


@pytest.mark.parametrize("name", ["byte_bpe", "tekken"])
def test_slices_encode_to_the_tokens_of_the_whole_text(name: str, request: pytest.FixtureRequest) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(name)
    for topic in sorted(topics)[:20]:
        document = topics[topic].encode()
        parts = tokenizer.encode_plain([part.decode() for part in slices(document, 300)])
        whole = tokenizer.encode_plain([topics[topic]])
        np.testing.assert_array_equal(parts.values, whole.values)


def test_a_window_must_hold_the_longest_character() -> None:
    assert slices("😀😀".encode(), 4) == ["😀".encode()] * 2
    with pytest.raises(ValueError, match="max_bytes is 3: a window must hold at least one UTF-8 character, 4 bytes"):
        window_ends(b"text", 3)
