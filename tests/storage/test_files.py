import errno
import os
import resource
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.errors import StorageError
from storage.files import atomic_path, remove_leftovers, scratch, write_atomic

FULL_DEVICE = Path("/dev/full")
needs_full_device = pytest.mark.skipif(not FULL_DEVICE.exists(), reason="this system has no /dev/full")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_and_its_folders_are_written(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a" / "b" / "file", b"data")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"data"
    assert names(tmp_path / "a" / "b") == ["file"]


def test_a_file_is_replaced(tmp_path: Path) -> None:
    write_atomic(tmp_path / "file", b"old and longer")
    write_atomic(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_the_file_is_on_the_disk_before_it_has_its_name_and_the_name_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    steps: list[tuple[str, bool]] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        steps.append(("folder" if is_folder else "file", path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    write_atomic(path, b"data")
    assert steps == [("file", False), ("folder", True)]


class Interrupted(BaseException):
    """Stands for Ctrl-C."""


def interrupted_write(path: Path, error: BaseException) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"half of the new")
        raise error


@pytest.mark.parametrize("error", [ValueError("bad"), Interrupted(), OSError(5, "broken disk")])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    expected = StorageError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected):
        interrupted_write(path, error)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def write_to_full_device(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.symlink_to(FULL_DEVICE)  # the kernel answers ENOSPC to every write
        temporary.write_bytes(b"data")


@needs_full_device
def test_a_full_disk_names_the_file_and_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(StorageError) as caught:
        write_to_full_device(path)
    message = str(caught.value)
    assert f"disk full while writing {path}" in message
    assert "bytes free): free some space or move `workspace`, then run the same command again" in message
    assert names(tmp_path) == []
    assert FULL_DEVICE.exists()


def test_a_full_disk_is_named_even_where_not_even_the_folder_could_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StorageError, match=r"disk full while writing .*free some space"):
        write_atomic(tmp_path / "new" / "file", b"data")


def without_permission(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No permission, also for root, whom modes do not stop."""
    folder.chmod(0o500)
    if os.access(folder, os.W_OK):

        def refuse(path: Path, *_: object, **__: object) -> int:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(Path, "write_bytes", refuse)


def test_a_missing_permission_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_permission(tmp_path, monkeypatch)
    with pytest.raises(StorageError, match=r"no permission to write .*file: make the folder writable or set another"):
        write_atomic(tmp_path / "file", b"data")
    tmp_path.chmod(0o700)
    assert names(tmp_path) == []


def parent_is_a_file(folder: Path) -> Path:
    (folder / "occupied").write_bytes(b"")
    return folder / "occupied" / "file"


def ancestor_is_a_file(folder: Path) -> Path:
    return parent_is_a_file(folder) / "deeper" / "file"


def name_is_a_folder(folder: Path) -> Path:
    (folder / "taken" / "inside").mkdir(parents=True)
    return folder / "taken"


def name_is_too_long(folder: Path) -> Path:
    return folder / ("x" * 300)


@pytest.mark.parametrize("place", [parent_is_a_file, ancestor_is_a_file, name_is_a_folder, name_is_too_long])
def test_any_other_refusal_names_the_file_and_a_remedy(tmp_path: Path, place: Callable[[Path], Path]) -> None:
    path = place(tmp_path)
    before = names(tmp_path)
    with pytest.raises(StorageError) as caught:
        write_atomic(path, b"data")
    assert f"cannot write {path}" in str(caught.value)
    assert "set another `workspace`" in str(caught.value)
    assert names(tmp_path) == before


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".shard-00000.arrow.123.tmp", "shard-00000.arrow", "notes.tmp", ".hidden"):
        (tmp_path / name).write_bytes(b"")
    remove_leftovers(tmp_path)
    assert names(tmp_path) == [".hidden", "notes.tmp", "shard-00000.arrow"]


LIMITED = f"""
import resource, sys
from pathlib import Path
import pyarrow as pa
from storage.artifact import ArtifactSpec, ArtifactWriter
from storage.errors import StorageError

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, {resource.RLIM_INFINITY}))
writer = ArtifactWriter(Path(sys.argv[1]), ArtifactSpec("numbers", 1, {{}}))
try:
    writer.write_table("shard-00000.arrow", "key", pa.table({{"a": list(range(1_000_000))}}))
except StorageError as error:
    print(error, flush=True)
"""


def test_a_refused_shard_leaves_nothing(tmp_path: Path, start: Callable) -> None:
    output, _ = start(LIMITED, tmp_path).communicate()
    assert f"cannot write {tmp_path / 'shard-00000.arrow'}" in output
    assert names(tmp_path) == []


KILLED = """
import sys, time
from pathlib import Path
from storage.files import atomic_path

with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"half of the new")
    print("written", flush=True)
    time.sleep(600)
"""


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path, start: Callable) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    child = start(KILLED, path)
    assert child.stdout.readline() == "written\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert path.read_bytes() == b"old"
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"


class TestScratch:
    @pytest.mark.parametrize("size", [0, 1, 100_000])
    def test_zeros_to_write_on_and_no_file_to_see(self, tmp_path: Path, size: int) -> None:
        memory = scratch(tmp_path, size)
        assert bytes(memory) == bytes(size)
        memory[:] = b"x" * size
        assert bytes(memory) == b"x" * size
        assert names(tmp_path) == []

    def test_a_disk_without_room_is_said_before_it_is_written_on(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(descriptor: int, offset: int, size: int) -> None:
            assert (offset, size) == (0, 1000)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "posix_fallocate", full)
        with pytest.raises(StorageError, match=f"disk full while writing {tmp_path} .*free some space"):
            scratch(tmp_path, 1000)
