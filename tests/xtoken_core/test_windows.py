from itertools import pairwise
from pydoc_data.topics import topics

import numpy as np
import pytest
from fakes import reproducible
from hypothesis import given
from hypothesis import strategies as st

from xtoken_core.tokenizer import Tokenizer
from xtoken_core.windows import window_ends

documents = st.text(alphabet="aZ7é中😀 .\n\t", max_size=80).map(str.encode)


def slices(document: bytes, max_bytes: int) -> list[bytes]:
    return [document[start:end] for start, end in pairwise([0, *window_ends(document, max_bytes)])]


def is_good_place(before: bytes, after: bytes) -> bool:
    """A space after anything but white space, a newline after an ASCII letter or digit."""
    if after == b" ":
        return not before.isspace()
    return after == b"\n" and before.isalnum()


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
        good = [i for i in reachable if is_good_place(document[i - 1 : i], document[i : i + 1])]
        between_characters = [i for i in reachable if is_utf8(document[:i])]
        ends.append(max(good or between_characters))
    return [*ends[1:], len(document)]


@reproducible
@given(documents, st.integers(4, 24))
def test_windows_end_at_the_last_good_place_else_between_characters(document: bytes, max_bytes: int) -> None:
    assert window_ends(document, max_bytes) == brute_force_ends(document, max_bytes)


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
