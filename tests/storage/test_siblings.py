"""Shards that another artifact has already: taken, not made again."""

import os
from pathlib import Path

import pytest
from small_artifacts import shard_table

from storage import files
from storage.artifact import Artifact, ArtifactSpec, ArtifactWriter, open_artifact

INPUTS = {"setting": 1}


def writer_for(shelf: Path, made_from: str, inputs: dict[str, int] = INPUTS, version: int = 1) -> ArtifactWriter:
    spec = ArtifactSpec("numbers", version, inputs, upstream={"made from": made_from})
    return ArtifactWriter(shelf / made_from, spec, shelf)


@pytest.fixture
def first(tmp_path: Path) -> Artifact:
    """Shards a and b."""
    writer = writer_for(tmp_path, "ab")
    return writer.finish([writer.write_table(f"shard-{i}.arrow", key, shard_table(i)) for i, key in enumerate("ab")])


def test_a_shard_made_from_the_same_is_taken_under_another_name(first: Artifact, tmp_path: Path) -> None:
    writer = writer_for(tmp_path, "xb")
    found = writer.find("shard-7.arrow", "b")
    assert found is not None
    entry = writer.take("shard-7.arrow", found)
    assert entry == first.manifest.files[1].model_copy(update={"name": "shard-7.arrow"})
    assert (writer.folder / "shard-7.arrow").samefile(first.path("shard-1.arrow"))
    taken = writer.finish([entry])
    assert taken.table(0).equals(shard_table(1))
    assert open_artifact(taken.folder, "numbers") == taken
    assert open_artifact(first.folder, "numbers") == first


def test_what_is_there_already_is_found_first(first: Artifact, tmp_path: Path) -> None:
    writer = writer_for(tmp_path, "b")
    written = writer.write_table("shard-0.arrow", "b", shard_table(1))
    found = writer.find("shard-0.arrow", "b")
    assert found is not None
    assert writer.take("shard-0.arrow", found) == written
    assert not (writer.folder / "shard-0.arrow").samefile(first.path("shard-1.arrow"))


@pytest.mark.parametrize(("key", "inputs", "version"), [("c", INPUTS, 1), ("b", {"setting": 2}, 1), ("b", INPUTS, 2)])
def test_what_was_made_in_another_way_is_not_taken(
    first: Artifact, tmp_path: Path, key: str, inputs: dict[str, int], version: int
) -> None:
    assert writer_for(tmp_path, "other", inputs, version).find("shard-0.arrow", key) is None


def test_without_a_shelf_nothing_else_is_looked_at(first: Artifact, tmp_path: Path) -> None:
    spec = ArtifactSpec("numbers", 1, INPUTS, upstream={"made from": "other"})
    assert ArtifactWriter(tmp_path / "other", spec).find("shard-0.arrow", "b") is None


def test_a_damaged_or_unfinished_sibling_is_passed_over(first: Artifact, tmp_path: Path) -> None:
    path = first.path("shard-1.arrow")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"!")
    assert writer_for(tmp_path, "one").find("shard-0.arrow", "b") is None
    path.write_bytes(whole)
    assert writer_for(tmp_path, "two").find("shard-0.arrow", "b") is not None
    (first.folder / "manifest.json").write_text("{")
    assert writer_for(tmp_path, "three").find("shard-0.arrow", "b") is None


def test_a_rebuilt_shard_leaves_the_one_that_shared_its_file(first: Artifact, tmp_path: Path) -> None:
    writer = writer_for(tmp_path, "b")
    found = writer.find("shard-0.arrow", "b")
    assert found is not None
    taken = writer.finish([writer.take("shard-0.arrow", found)])
    writer_for(tmp_path, "ab").write_table("shard-1.arrow", "b", shard_table(2))
    assert taken.table(0).equals(shard_table(1))
    assert first.table(1).equals(shard_table(2))


def test_a_file_system_without_links_gets_a_copy(
    first: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_source: Path, _target: Path) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(files.os, "link", refuse)
    writer = writer_for(tmp_path, "b")
    found = writer.find("shard-0.arrow", "b")
    assert found is not None
    taken = writer.finish([writer.take("shard-0.arrow", found)])
    assert os.stat(taken.path("shard-0.arrow")).st_nlink == 1
    assert taken.table(0).equals(shard_table(1))
