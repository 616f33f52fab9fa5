import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from small_artifacts import SHARDS, SPEC, shard_table, write_missing

from storage import artifact as artifact_module
from storage import digests
from storage.artifact import (
    Artifact,
    ArtifactSpec,
    ArtifactWriter,
    damage,
    open_artifact,
    read_manifest,
    read_table,
    shard_name,
)
from storage.columns import from_list_column
from storage.errors import ArtifactError, StorageError
from storage.files import atomic_path
from storage.hashing import file_checksum
from storage.manifest import MANIFEST_NAME


def states(folder: Path) -> dict[str, int]:
    """Each shard's inode: another one after it was written again."""
    return {path.name: path.stat().st_ino for path in folder.glob("shard-*.arrow")}


def test_what_was_written_is_read(artifact: Artifact) -> None:
    opened = open_artifact(artifact.folder, "numbers")
    assert len(opened) == SHARDS
    assert all(opened.table(i).equals(shard_table(i)) for i in range(SHARDS))
    assert opened.rows == 100 * SHARDS
    assert opened.bytes == sum(path.stat().st_size for path in artifact.folder.glob("shard-*.arrow"))
    assert opened.manifest == artifact.manifest
    assert opened.manifest.fingerprint == SPEC.fingerprint


def test_the_manifest_tells_what_the_files_are(artifact: Artifact) -> None:
    manifest = artifact.manifest
    assert (manifest.kind, manifest.algorithm_version, manifest.inputs) == ("numbers", 1, {"seed": 0})
    assert manifest.stats == {"shards": SHARDS}
    assert manifest.total("rows") == 100 * SHARDS
    assert manifest.total("unheard of") == 0
    for entry in manifest.files:
        assert entry.checksum == file_checksum(artifact.path(entry.name))
    assert {"python", "pyarrow", "numpy"} <= set(manifest.environment)
    assert json.loads(artifact.path(MANIFEST_NAME).read_text())["kind"] == "numbers"


def test_a_shard_is_one_record_batch_and_polars_reads_it(artifact: Artifact) -> None:
    path = artifact.path(shard_name(0))
    assert pa.ipc.open_file(path).num_record_batches == 1
    assert pl.read_ipc(path)["ids"].list.len().sum() == 1000


def test_a_table_of_several_chunks_becomes_one_batch(writer: ArtifactWriter) -> None:
    table = pa.concat_tables([shard_table(0).slice(3, 4), shard_table(1).slice(0, 0), shard_table(2).slice(50)])
    writer.write_table(shard_name(0), "key", table)
    read = read_table(writer.folder / shard_name(0))
    assert read.equals(table)
    assert [column.num_chunks for column in read.columns] == [1, 1]


def test_a_table_without_rows_is_a_shard_like_any_other(writer: ArtifactWriter) -> None:
    empty = shard_table(0).schema.empty_table()
    entry = writer.write_table(shard_name(0), "key", empty)
    read = writer.finish([entry]).table(0)
    assert (entry.rows, read.schema) == (0, empty.schema)
    assert [column.num_chunks for column in read.columns] == [1, 1]
    assert len(from_list_column(read["ids"])) == 0


def test_a_column_too_large_for_one_batch_names_the_setting(writer: ArtifactWriter) -> None:
    # Lists whose offsets claim 1.5 G values each over one shared buffer of zero bits: large on paper only.
    half = 3 * 2**29
    bits = pa.BooleanArray.from_buffers(pa.bool_(), half, [None, pa.py_buffer(np.zeros(half // 8, dtype=np.uint8))])
    chunk = pa.ListArray.from_arrays(pa.array([0, half], pa.int32()), bits)
    table = pa.table({"mask": pa.chunked_array([chunk, chunk])})
    with pytest.raises(StorageError, match=r"too large .*lower `windows.windows_per_shard`"):
        writer.write_table(shard_name(0), "key", table)
    assert not writer.folder.exists()


def test_bytes_can_be_files_too(writer: ArtifactWriter) -> None:
    entry = writer.write_bytes("audit.json", "key", b"{}")
    opened = open_artifact(writer.finish([entry]).folder, "numbers")
    assert opened.path("audit.json").read_bytes() == b"{}"
    assert len(opened) == 0
    assert opened.bytes == 2


def test_kind_version_and_inputs_determine_the_fingerprint() -> None:
    others = [("words", 1, {"seed": 0}), ("numbers", 2, {"seed": 0}), ("numbers", 1, {}), ("numbers", 1, {"seed": 1})]
    assert SPEC.fingerprint not in {ArtifactSpec(*other).fingerprint for other in others}
    assert SPEC.fingerprint == ArtifactSpec("numbers", 1, {"seed": 0}).fingerprint


def flip_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    rewrite(path, bytes(data))


def truncate(path: Path) -> None:
    rewrite(path, path.read_bytes()[:-1])


def empty(path: Path) -> None:
    rewrite(path, b"")


def remove(path: Path) -> None:
    path.unlink()


def put_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def rewrite(path: Path, data: bytes) -> None:
    """Change a file in place, a second after it was written."""
    time = path.stat().st_mtime_ns + 10**9
    path.write_bytes(data)
    os.utime(path, ns=(time, time))


DAMAGES = [flip_byte, truncate, empty, remove, put_folder]


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (flip_byte, "has checksum [0-9a-f]{32}, its manifest says [0-9a-f]{32}"),
        (truncate, "has [0-9,]+ bytes, its manifest says [0-9,]+"),
        (empty, "has 0 bytes, its manifest says [0-9,]+"),
        (remove, "is missing"),
    ],
)
def test_a_damaged_shard_is_an_error_that_names_both_sides(
    artifact: Artifact, spoil: Callable[[Path], None], found: str
) -> None:
    path = artifact.path(shard_name(1))
    spoil(path)
    with pytest.raises(ArtifactError, match=f"{path} {found}: run the command that makes numbers again, it rebuilds"):
        open_artifact(artifact.folder, "numbers")


def test_damage_that_no_time_tells_of_is_found_by_reading(artifact: Artifact) -> None:
    path, entry = artifact.path(shard_name(1)), artifact.manifest.files[1]
    flip_byte(path)
    digests.remember(path, entry.checksum)
    assert damage(artifact.folder, entry) is None
    assert "its manifest says" in str(damage(artifact.folder, entry, fresh=True))


def test_a_flipped_byte_is_noticed_though_the_modification_time_was_set_back(artifact: Artifact) -> None:
    path = artifact.path(shard_name(1))
    before = path.stat()
    flip_byte(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ArtifactError, match="has checksum"):
        open_artifact(artifact.folder, "numbers")


def test_a_file_that_cannot_be_read_is_an_error_that_names_it(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path) -> str:
        raise OSError(5, "Input/output error")

    rewrite(artifact.path(shard_name(2)), artifact.path(shard_name(2)).read_bytes())
    monkeypatch.setattr(digests, "file_checksum", broken)
    with pytest.raises(ArtifactError, match=r"shard-00002.arrow cannot be read: Input/output error: run the command"):
        open_artifact(artifact.folder, "numbers")


@pytest.mark.parametrize("spoil", DAMAGES)
def test_only_the_damaged_shard_is_rebuilt(
    artifact: Artifact, writer: ArtifactWriter, spoil: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    before, manifest = states(artifact.folder), artifact.manifest
    spoil(artifact.path(shard_name(1)))
    assert writer.complete() is None
    assert not artifact.path(MANIFEST_NAME).exists()
    assert "making the damaged part of numbers again: " in caplog.text
    assert "run the command" not in caplog.text
    assert str(artifact.path(shard_name(1))) in caplog.text
    if spoil is put_folder:
        artifact.path(shard_name(1)).rmdir()
    assert write_missing(writer) == [1]
    after = states(artifact.folder)
    assert {name for name in after if before.get(name) == after[name]} >= {shard_name(0), shard_name(2)}
    assert open_artifact(artifact.folder, "numbers").manifest.files == manifest.files


def test_a_finished_artifact_is_complete_and_left_alone(artifact: Artifact, writer: ArtifactWriter) -> None:
    before = states(artifact.folder)
    assert writer.complete() == artifact
    assert write_missing(writer) == []
    assert states(artifact.folder) == before


def test_what_was_just_written_is_not_read_back_by_a_reader(
    writer: ArtifactWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_missing(writer)

    def refuse(path: Path) -> str:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(digests, "file_checksum", refuse)
    open_artifact(writer.folder, "numbers")


def test_a_copied_artifact_opens_elsewhere(artifact: Artifact, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(artifact.folder, copy)
    assert open_artifact(copy, "numbers").table(1).equals(shard_table(1))


def test_nothing_there_is_an_error_that_says_what_to_do(tmp_path: Path, writer: ArtifactWriter) -> None:
    with pytest.raises(ArtifactError, match=r"holds no finished artifact \(no manifest.json\): run the command"):
        open_artifact(tmp_path / "missing", "numbers")
    assert writer.complete() is None


def test_shards_without_a_manifest_are_not_an_artifact(writer: ArtifactWriter) -> None:
    writer.write_table(shard_name(0), "key", shard_table(0))
    with pytest.raises(ArtifactError, match="no finished artifact"):
        open_artifact(writer.folder, "numbers")


def test_another_kind_is_an_error_that_names_both(artifact: Artifact) -> None:
    with pytest.raises(ArtifactError, match="holds numbers, not windows: give the folder of windows"):
        open_artifact(artifact.folder, "windows")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the whole file: Invalid JSON: EOF"),
        ("{", "the whole file: Invalid JSON: EOF"),
        ("[]", "the whole file: Input should be an object"),
        ("null", "the whole file: Input should be an object"),
        ('{"kind": "numbers"}', "fingerprint: Field required"),
        ('{"kind": 1}', "kind: Input should be a valid string"),
        ("\xff", "the whole file: Invalid JSON"),
    ],
)
def test_an_unreadable_manifest_is_an_error_for_readers_and_rebuilt_by_the_owner(
    artifact: Artifact, writer: ArtifactWriter, text: str, problem: str
) -> None:
    artifact.path(MANIFEST_NAME).write_bytes(text.encode("latin-1"))
    with pytest.raises(ArtifactError) as refusal:
        open_artifact(artifact.folder, "numbers")
    said = str(refusal.value)
    assert said.startswith(f"{artifact.path(MANIFEST_NAME)} is not a manifest of this version ({problem}")
    assert said.endswith("): run the command that makes it again")
    assert "\n" not in said
    before = states(artifact.folder)
    assert writer.complete() is None
    assert write_missing(writer) == []
    assert states(artifact.folder) == before


def test_a_manifest_with_an_entry_of_another_shape_says_where(artifact: Artifact) -> None:
    content = json.loads(artifact.path(MANIFEST_NAME).read_bytes())
    content["files"][1]["rows"] = "many"
    artifact.path(MANIFEST_NAME).write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match=r"\(files\.1\.rows: Input should be a valid integer"):
        open_artifact(artifact.folder, "numbers")


def test_a_manifest_that_is_a_folder_is_an_error(artifact: Artifact) -> None:
    artifact.path(MANIFEST_NAME).unlink()
    artifact.path(MANIFEST_NAME).mkdir()
    with pytest.raises(ArtifactError, match=f"{MANIFEST_NAME} cannot be read: Is a directory"):
        open_artifact(artifact.folder, "numbers")


def test_the_manifest_of_other_inputs_is_not_complete(artifact: Artifact) -> None:
    other = ArtifactWriter(artifact.folder, ArtifactSpec("numbers", 1, {"seed": 1}))
    assert other.complete() is None
    other.finish([other.write_table(shard_name(0), "other", shard_table(0))])
    complete = other.complete()
    assert complete is not None
    assert complete.manifest.inputs == {"seed": 1}


def test_a_file_made_from_something_else_is_not_finished(writer: ArtifactWriter) -> None:
    entry = writer.write_table(shard_name(0), "old key", shard_table(0))
    assert writer.finished(shard_name(0), "old key") == entry
    assert writer.finished(shard_name(0), "new key") is None
    assert writer.finished(shard_name(1), "old key") is None


@pytest.mark.parametrize("receipt", [b"", b"{}", b"null", b"\xff"])
def test_a_file_with_an_unreadable_receipt_is_not_finished(writer: ArtifactWriter, receipt: bytes) -> None:
    writer.write_table(shard_name(0), "key", shard_table(0))
    (writer.folder / f"{shard_name(0)}.json").write_bytes(receipt)
    assert writer.finished(shard_name(0), "key") is None


def test_a_file_written_anew_is_not_taken_for_the_one_of_the_old_receipt(writer: ArtifactWriter) -> None:
    """As after a kill between the file and its receipt."""
    receipt = writer.folder / f"{shard_name(0)}.json"
    writer.write_table(shard_name(0), "key", shard_table(0))
    old = receipt.read_bytes()
    writer.write_table(shard_name(0), "key", shard_table(1))
    receipt.write_bytes(old)
    assert writer.finished(shard_name(0), "key") is None


def test_counts_that_are_not_numbers_do_not_spoil_the_artifact(writer: ArtifactWriter) -> None:
    stats = {"mean": float("nan"), "worst": float("inf")}
    entry = writer.write_table(shard_name(0), "key", shard_table(0), stats)
    writer.finish([entry], stats)
    found = writer.finished(shard_name(0), "key")
    manifest = open_artifact(writer.folder, "numbers").manifest
    assert found is not None
    for read in (found.stats, manifest.files[0].stats, manifest.stats):
        assert np.isnan(read["mean"])
        assert read["worst"] == float("inf")


@pytest.mark.parametrize("data", [b"", b"ARROW1", b"no arrow at all" * 100])
def test_a_file_that_is_not_arrow_is_an_error_that_names_it(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file.arrow"
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match=f"cannot read {path}: .*; run the command that made it again"):
        read_table(path)


@pytest.mark.parametrize("length", [8, 100, 500, -100, -8])
def test_a_truncated_arrow_file_is_an_error(artifact: Artifact, length: int) -> None:
    path = artifact.path(shard_name(0))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ArtifactError, match="cannot read"):
        read_table(path)


def test_a_missing_table_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"cannot read .*missing.arrow"):
        read_table(tmp_path / "missing.arrow")


def test_a_mapped_shard_stays_readable_while_it_is_rebuilt(artifact: Artifact, writer: ArtifactWriter) -> None:
    table = artifact.table(0)
    writer.write_table(shard_name(0), "key", shard_table(5))
    assert table.equals(shard_table(0))
    assert read_table(artifact.path(shard_name(0))).equals(shard_table(5))


MEGABYTES = 8


@pytest.fixture
def large() -> pa.Table:
    values = np.arange(MEGABYTES << 18, dtype=np.int32)
    offsets = np.arange(0, len(values) + 1, 256, dtype=np.int32)
    return pa.table({"ids": pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))})


def test_a_shard_is_mapped_and_not_copied(writer: ArtifactWriter, large: pa.Table) -> None:
    artifact = writer.finish([writer.write_table(shard_name(0), "key", large)])
    before = pa.total_allocated_bytes()
    table = artifact.table(0)
    ids = from_list_column(table["ids"])
    assert pa.total_allocated_bytes() - before < 1 << 16
    assert ids.values.nbytes == MEGABYTES << 20
    assert not ids.values.flags.writeable
    assert np.shares_memory(ids.values, np.frombuffer(table["ids"].chunk(0).buffers()[3], dtype=np.int32))
    assert np.array_equal(ids.values, np.arange(MEGABYTES << 18))


def test_the_measure_of_copies_notices_a_copy(tmp_path: Path, large: pa.Table) -> None:
    path = tmp_path / "compressed.arrow"
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, large.schema, options=options) as output:
        output.write_table(large)
    before = pa.total_allocated_bytes()
    table = read_table(path)
    assert table.num_rows == large.num_rows
    assert pa.total_allocated_bytes() - before >= MEGABYTES << 20


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_keeps_finished_shards_and_leaves_no_half_one(
    writer: ArtifactWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = writer.write_table(shard_name(0), "key-0", shard_table(0), {"rows": 100})

    @contextmanager
    def on_full_device(path: Path) -> Iterator[Path]:
        with atomic_path(path) as temporary:
            temporary.symlink_to("/dev/full")  # the kernel answers ENOSPC to every write
            yield temporary

    with monkeypatch.context() as patch:
        patch.setattr(artifact_module, "atomic_path", on_full_device)
        with pytest.raises(StorageError, match=r"disk full while writing .*shard-00001.arrow"):
            writer.write_table(shard_name(1), "key-1", shard_table(1))
    assert sorted(path.name for path in writer.folder.iterdir()) == [shard_name(0), f"{shard_name(0)}.json"]
    assert writer.finished(shard_name(0), "key-0") == entry
    assert write_missing(writer) == [1, 2]


def test_a_manifest_can_be_read_alone(artifact: Artifact) -> None:
    artifact.path(shard_name(0)).unlink()
    assert read_manifest(artifact.folder) == artifact.manifest
