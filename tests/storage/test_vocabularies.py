from pathlib import Path

import numpy as np
import pytest
from fakes import fake_vocabulary

from storage.artifact import shard_name
from storage.errors import ArtifactError
from storage.vocabularies import load_vocabulary, store_vocabulary, vocabulary_spec
from xtoken_core.tokenizer import Tokenizer
from xtoken_core.vocabulary import Vocabulary

SMALL = fake_vocabulary(
    ["<s>", b"a", None, b"", b"\xff\x00", b"the", b"the", "<|end|>", None],
    roles={"bos": 0, "eos": 7},
    dummy_prefix=True,
)
WITHOUT_BYTES = fake_vocabulary(["<s>", None])


def assert_same(found: Vocabulary, expected: Vocabulary) -> None:
    assert found.fingerprint == expected.fingerprint
    assert np.array_equal(found.data, expected.data)
    assert np.array_equal(found.offsets, expected.offsets)
    assert np.array_equal(found.kind, expected.kind)
    assert (found.data.dtype, found.offsets.dtype, found.kind.dtype) == (np.uint8, np.int64, np.int8)
    assert (found.texts, found.roles, found.dummy_prefix) == (expected.texts, expected.roles, expected.dummy_prefix)


@pytest.mark.parametrize("vocabulary", [SMALL, WITHOUT_BYTES], ids=["small", "without bytes"])
def test_a_vocabulary_survives_storing(tmp_path: Path, vocabulary: Vocabulary) -> None:
    store_vocabulary(tmp_path / "v", vocabulary)
    assert_same(load_vocabulary(tmp_path / "v"), vocabulary)


@pytest.mark.parametrize("name", ["byte_bpe", "mistral_v1"])
def test_a_real_vocabulary_survives_storing(tmp_path: Path, name: str, request: pytest.FixtureRequest) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(name)
    store_vocabulary(tmp_path / "v", tokenizer.vocabulary)
    loaded = load_vocabulary(tmp_path / "v")
    assert_same(loaded, tokenizer.vocabulary)
    assert np.array_equal(loaded.prefix_parent, tokenizer.vocabulary.prefix_parent)


def test_what_is_there_is_not_written_again(tmp_path: Path) -> None:
    first = store_vocabulary(tmp_path / "v", SMALL)
    inode = first.path(shard_name(0)).stat().st_ino
    assert store_vocabulary(tmp_path / "v", SMALL) == first
    assert first.path(shard_name(0)).stat().st_ino == inode


def test_a_damaged_one_is_an_error_to_readers_and_stored_again(tmp_path: Path) -> None:
    artifact = store_vocabulary(tmp_path / "v", SMALL)
    artifact.path(shard_name(0)).write_bytes(b"")
    with pytest.raises(ArtifactError, match="has 0 bytes"):
        load_vocabulary(tmp_path / "v")
    store_vocabulary(tmp_path / "v", SMALL)
    assert_same(load_vocabulary(tmp_path / "v"), SMALL)


@pytest.mark.parametrize(
    "other",
    [
        fake_vocabulary(["<s>", b"a"], roles={"bos": 0}),
        fake_vocabulary(["<s>", b"b"]),
        fake_vocabulary(["<s>", b"a"], dummy_prefix=True),
        fake_vocabulary(["<t>", b"a"]),
        fake_vocabulary(["<s>", b"a", None]),
    ],
)
def test_vocabularies_that_differ_have_folders_of_their_own(other: Vocabulary) -> None:
    assert vocabulary_spec(other).fingerprint != vocabulary_spec(fake_vocabulary(["<s>", b"a"])).fingerprint


def test_storing_leaves_other_content_of_the_folder_to_its_owner(tmp_path: Path) -> None:
    """A folder given by a person may hold another vocabulary: it is replaced, not mixed."""
    store_vocabulary(tmp_path / "v", WITHOUT_BYTES)
    store_vocabulary(tmp_path / "v", SMALL)
    assert_same(load_vocabulary(tmp_path / "v"), SMALL)
