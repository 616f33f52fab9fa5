from collections import Counter
from itertools import chain

import numpy as np
from fakes import reproducible
from hypothesis import given
from hypothesis import strategies as st

from xtoken_core.occurrences import Occurrences

# The few large ones fall into the same slots as small ones, whatever the table's size.
HASHES = st.integers(0, 9) | st.integers(0, 9).map(lambda n: n << 40) | st.integers(2**64 - 9, 2**64 - 1)


def counted(hashes: list[int]) -> list[int]:
    seen: Counter[int] = Counter()
    numbers = []
    for value in hashes:
        numbers.append(seen[value])
        seen[value] += 1
    return numbers


@reproducible
@given(st.lists(st.lists(HASHES, max_size=30), max_size=5))
def test_each_hash_is_numbered_over_all_calls(calls: list[list[int]]) -> None:
    occurrences = Occurrences()
    numbers = [occurrences.number(np.array(call, dtype=np.uint64)).tolist() for call in calls]
    assert [*chain.from_iterable(numbers)] == counted([*chain.from_iterable(calls)])


def test_the_table_grows_with_what_it_holds() -> None:
    hashes = np.random.default_rng(0).integers(0, 2**64, size=50_000, dtype=np.uint64)
    occurrences = Occurrences()
    for part in np.array_split(hashes, 7):
        assert not occurrences.number(part).any()
    assert (occurrences.number(hashes) == 1).all()


@reproducible
@given(st.lists(st.tuples(st.lists(HASHES, max_size=30), st.booleans()), max_size=6))
def test_what_is_not_kept_can_be_taken_back(files: list[tuple[list[int], bool]]) -> None:
    occurrences, kept = Occurrences(), list[int]()
    for hashes, is_kept in files:
        halves = (np.array(half, dtype=np.uint64) for half in (hashes[:10], hashes[10:]))
        numbers = [number for half in halves for number in occurrences.number(half).tolist()]
        assert numbers == counted([*kept, *hashes])[len(kept) :]
        if is_kept:
            occurrences.keep()
            kept += hashes
        else:
            occurrences.take_back()


def test_what_is_taken_back_is_found_again_after_the_table_grew() -> None:
    first, second = np.random.default_rng(0).integers(0, 2**64, size=(2, 20_000), dtype=np.uint64)
    occurrences = Occurrences()
    occurrences.number(first)
    occurrences.keep()
    occurrences.number(np.concatenate([second, first]))
    occurrences.take_back()
    assert (occurrences.number(first) == 1).all()
    assert not occurrences.number(second).any()
