import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from storage.hashing import BLOCK_BYTES, bytes_checksum, file_checksum, fingerprint, hash64, ids_hash

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=10
)


def reordered(value: object) -> object:
    """The same JSON value with the keys of every mapping in the other order."""
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(list(value))}
    return [reordered(item) for item in value] if isinstance(value, list) else value


@given(json_values)
def test_the_order_of_keys_does_not_matter(value: object) -> None:
    assert fingerprint(reordered(value)) == fingerprint(value)


@given(json_values, json_values)
def test_fingerprints_differ_where_the_json_differs(one: object, other: object) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (fingerprint(one) == fingerprint(other)) is same


@given(json_values)
def test_a_fingerprint_survives_json(value: object) -> None:
    assert fingerprint(json.loads(json.dumps(value))) == fingerprint(value)


def test_a_fingerprint_is_a_short_folder_name_that_stays_the_same_between_versions() -> None:
    canonical = b'["windows",1,{"bytes":4096,"files":["a","b"]}]'
    expected = hashlib.blake2b(canonical, digest_size=10).hexdigest()
    assert fingerprint(["windows", 1, {"files": ("a", "b"), "bytes": 4096}]) == expected == "b7ac67d6135c06f66f13"


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", Path("a"), np.int64(3), {"deep": [np.float32(1)]}])
def test_what_json_cannot_hold_has_no_fingerprint(value: object) -> None:
    with pytest.raises(TypeError):
        fingerprint(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_have_no_fingerprint(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        fingerprint([value])


def test_a_file_name_that_is_not_unicode_has_a_fingerprint() -> None:
    assert fingerprint("caf\udce9") != fingerprint("café")


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES])
def test_a_file_and_its_bytes_have_one_checksum(tmp_path: Path, size: int) -> None:
    data = bytes(i * 7 % 251 for i in range(size))
    path = tmp_path / "file"
    path.write_bytes(data)
    assert file_checksum(path) == bytes_checksum(data) == xxhash.xxh3_128(data).hexdigest()


@given(st.lists(st.binary(max_size=4), max_size=4), st.lists(st.binary(max_size=4), max_size=4))
def test_the_parts_of_a_hash_are_kept_apart(one: list[bytes], other: list[bytes]) -> None:
    assert (hash64(*one) == hash64(*other)) is (one == other)
    assert 0 <= hash64(*one) < 2**64


def test_parts_that_join_to_the_same_bytes_differ() -> None:
    assert len({hash64(b"ab", b"c"), hash64(b"a", b"bc"), hash64(b"abc"), hash64(b"abc", b"")}) == 4


def test_ids_are_hashed_as_little_endian_int32() -> None:
    assert ids_hash(np.array([1, -2])) == hash64(b"\x01\0\0\0\xfe\xff\xff\xff")


int32 = st.integers(-(2**31), 2**31 - 1)


@given(st.lists(int32, max_size=20), st.lists(int32, max_size=20))
def test_ids_hash_depends_on_the_ids_alone(one: list[int], other: list[int]) -> None:
    ids = np.array(one, dtype=np.int32)
    assert ids_hash(ids) == ids_hash(ids.astype(np.int64)) == ids_hash(ids.astype(">i4"))
    assert ids_hash(np.repeat(ids, 2)[::2]) == ids_hash(ids)
    assert (ids_hash(ids) == ids_hash(np.array(other, dtype=np.int32))) is (one == other)
