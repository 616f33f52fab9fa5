"""The search for the cheapest way from one text to the other, against the whole table."""

from pydoc_data.topics import topics
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.align_reference import distances
from xtoken_core.align.anchors import Anchors, Stretches, find_anchors
from xtoken_core.align.path import Diagonals, Limits, find_paths

Piece = tuple[int, int, int]
TEXT = topics["assignment"].encode()


def no_anchors(n: int) -> Anchors:
    return Anchors(np.zeros(n + 1, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))


def bytes_array(text: bytes) -> np.ndarray:
    return np.frombuffer(bytearray(text), dtype=np.uint8)


def one_stretch(a: bytes, b: bytes) -> Stretches:
    return Stretches(*(np.array([value]) for value in (0, len(a), 0, len(b))))


def pieces_of(paths: Diagonals) -> list[Piece]:
    n = int(paths.offsets[-1])
    columns = (paths.student, paths.teacher, paths.lengths)
    return list(zip(*(column[:n].tolist() for column in columns), strict=True))


def way(a: bytes, b: bytes, limits: Limits | None = None) -> list[Piece]:
    return pieces_of(find_paths(bytes_array(a), bytes_array(b), one_stretch(a, b), no_anchors(1), limits or Limits()))


def anchored_way(a: bytes, b: bytes) -> list[Piece]:
    arrays, stretch = (bytes_array(a), bytes_array(b)), one_stretch(a, b)
    return pieces_of(find_paths(*arrays, stretch, find_anchors(*arrays, stretch), Limits()))


def cost(a: bytes, b: bytes, pieces: list[Piece]) -> int:
    """Of a way that is checked to lead from one end to the other."""
    assert pieces[0][:2] == (0, 0)
    assert [pieces[-1][0] + pieces[-1][2], pieces[-1][1] + pieces[-1][2]] == [len(a), len(b)]
    total, x, y = 0, 0, 0
    for piece_x, piece_y, length in pieces:
        assert piece_x >= x
        assert piece_y >= y
        total += max(piece_x - x, piece_y - y)
        x, y = piece_x + length, piece_y + length
        total += sum(one != other for one, other in zip(a[piece_x:x], b[piece_y:y], strict=True))
    return total


def edited(text: bytes, edits: int, random: Random) -> bytes:
    for _ in range(edits):
        at, size = random.randrange(len(text) + 1), random.randrange(4)
        text = text[:at] + random.randbytes(random.randrange(4)) + text[at + size :]
    return text


@given(st.text("abc", max_size=40), st.text("abc", max_size=40))
def test_the_cost_is_the_least(one: str, other: str) -> None:
    a, b = one.encode(), other.encode()
    assert cost(a, b, way(a, b)) == distances(a, b)[-1][-1]


@given(st.binary(min_size=1, max_size=60), st.integers(0, 12), st.randoms(use_true_random=False))
def test_the_cost_of_edits_is_the_least(text: bytes, edits: int, random: Random) -> None:
    other = edited(text, edits, random)
    assert cost(text, other, way(text, other)) == distances(text, other)[-1][-1]


@given(st.text("ab", max_size=40), st.text("ab", max_size=40), st.integers(1, 12))
def test_a_band_costs_nothing_where_the_best_way_lies_in_it(one: str, other: str, band: int) -> None:
    a, b = one.encode(), other.encode()
    found, least = cost(a, b, way(a, b, Limits(band, 200))), distances(a, b)[-1][-1]
    assert found == least if 2 * least <= band else least <= found <= max(len(a), len(b))


@given(st.text("ab", max_size=40), st.text("ab", max_size=40), st.integers(2, 12))
def test_blocks_only_lead_to_a_valid_way(one: str, other: str, waves: int) -> None:
    a, b = one.encode(), other.encode()
    found, least = cost(a, b, way(a, b, Limits(50, waves))), distances(a, b)[-1][-1]
    assert found == least if least < waves else found >= least


@pytest.mark.parametrize("waves", [40, 80])
def test_blocks_of_a_long_edited_text_find_the_same_way(waves: int) -> None:
    other = edited(TEXT, 60, Random(0))
    whole, blocks = way(TEXT, other), way(TEXT, other, Limits(128, waves))
    assert cost(TEXT, other, whole) > waves
    assert cost(TEXT, other, blocks) == cost(TEXT, other, whole)


@pytest.mark.parametrize("edits", [1, 10, 100, 400])
def test_anchors_lie_on_the_best_way(edits: int) -> None:
    other = edited(TEXT, edits, Random(edits))
    assert cost(TEXT, other, anchored_way(TEXT, other)) == cost(TEXT, other, way(TEXT, other))


def test_after_a_loss_wider_than_the_band_anchors_find_the_way_back() -> None:
    lost = TEXT[:1000] + TEXT[2000:]
    assert cost(TEXT, b"?" + lost[1:-1] + b"?", anchored_way(TEXT, b"?" + lost[1:-1] + b"?")) == 1002


def test_anchors_are_equal_on_both_sides_and_advance() -> None:
    other = edited(TEXT[3000:] + TEXT[:3000], 20, Random(1))
    arrays, stretch = (bytes_array(TEXT), bytes_array(other)), one_stretch(TEXT, other)
    anchors = find_anchors(*arrays, stretch)
    n = int(anchors.offsets[-1])
    student, teacher = anchors.student[:n], anchors.teacher[:n]
    assert n > 50
    assert (np.diff(student) > 0).all()
    assert (np.diff(teacher) > 0).all()
    assert all(TEXT[x : x + 16] == other[y : y + 16] for x, y in zip(student, teacher, strict=True))


def test_several_stretches_of_one_text() -> None:
    a, b = b"..one..two", b"..onx...twoo"
    stretches = Stretches(np.array([2, 7]), np.array([3, 3]), np.array([2, 8]), np.array([3, 4]))
    paths = find_paths(bytes_array(a), bytes_array(b), stretches, no_anchors(2), Limits())
    assert paths.offsets.tolist() == [0, 1, 3]
    assert pieces_of(paths) == [(0, 0, 3), (0, 0, 3), (3, 4, 0)]


LONG = 1 << 18


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (b"a" * LONG, b"b" * LONG, LONG),
        (b"a" * LONG, b"aaab" * (LONG // 4), LONG // 4),
        (b"ab" * (LONG // 2), b"ba" * (LONG // 2), 2),
        (b"a" * LONG, b"b" * 10, LONG),
        (b"b" * 10, b"a" * LONG, LONG),
        (b"a" * LONG, b"", LONG),
        (b"", b"a" * LONG, LONG),
        (b"a" * LONG, b"a" * 1000, LONG - 1000),
    ],
    ids=["nothing equal", "repeating", "turned", "long and short", "short and long", "empty", "empty too", "shorter"],
)
def test_long_texts_of_any_kind_are_aligned(a: bytes, b: bytes, expected: int) -> None:
    assert cost(a, b, anchored_way(a, b)) == expected
