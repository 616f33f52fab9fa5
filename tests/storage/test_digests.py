import os
import shutil
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storage import digests
from storage.digests import file_digest, folder_digest, remember
from storage.hashing import bytes_checksum, file_checksum

Reads = list[Path]


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for the memory."""
    folder = tmp_path / "memory"
    monkeypatch.setenv("XTOKEN_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def reads(memory: Path, monkeypatch: pytest.MonkeyPatch) -> Reads:
    """The files that were read, in order."""
    paths: Reads = []

    def counted(path: Path) -> str:
        paths.append(path)
        return file_checksum(path)

    monkeypatch.setattr(digests, "file_checksum", counted)
    return paths


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.txt"
    path.write_bytes(b"first")
    return path


def overwrite_in_place(path: Path, data: bytes) -> None:
    """Other bytes in the same file, and the modification time as it was."""
    before = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def set_age(path: Path, seconds: int) -> None:
    os.utime(path, ns=(0, 10**18 - seconds * 10**9))


def test_an_unchanged_file_is_read_once(file: Path, reads: Reads) -> None:
    assert [file_digest(file) for _ in range(3)] == [bytes_checksum(b"first")] * 3
    assert reads == [file]


def test_a_file_of_another_size_is_read_again(file: Path, reads: Reads) -> None:
    set_age(file, 10)
    file_digest(file)
    file.write_bytes(b"longer")
    set_age(file, 10)
    assert file_digest(file) == bytes_checksum(b"longer")
    assert len(reads) == 2


def test_a_file_of_the_same_size_and_another_time_is_read_again(file: Path, reads: Reads) -> None:
    set_age(file, 10)
    file_digest(file)
    file.write_bytes(b"other")
    set_age(file, 9)
    assert file_digest(file) == bytes_checksum(b"other")
    assert len(reads) == 2


def test_a_file_whose_time_was_set_back_is_read_again(file: Path, reads: Reads) -> None:
    file_digest(file)
    overwrite_in_place(file, b"f1rst")
    assert file_digest(file) == bytes_checksum(b"f1rst")
    assert len(reads) == 2


def test_another_file_of_the_same_name_size_and_time_is_read_again(file: Path, tmp_path: Path, reads: Reads) -> None:
    file_digest(file)
    (tmp_path / "other").write_bytes(b"f1rst")
    shutil.copystat(file, tmp_path / "other")
    (tmp_path / "other").replace(file)
    assert file_digest(file) == bytes_checksum(b"f1rst")
    assert len(reads) == 2


def test_what_was_noted_before_inodes_were_is_not_taken(file: Path, memory: Path, reads: Reads) -> None:
    memory.mkdir()
    connection = sqlite3.connect(memory / "digests.sqlite")
    with connection:
        connection.execute("CREATE TABLE digests (path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, digest TEXT)")
        row = (os.fsencode(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns, "old")
        connection.execute("INSERT INTO digests VALUES (?, ?, ?, ?)", row)
    connection.close()
    assert [file_digest(file) for _ in range(2)] == [bytes_checksum(b"first")] * 2
    assert reads == [file]


def test_a_fresh_digest_is_read_from_the_file(file: Path, reads: Reads) -> None:
    remember(file, "noted")
    assert file_digest(file, fresh=True) == bytes_checksum(b"first")
    assert file_digest(file) == bytes_checksum(b"first")
    assert reads == [file]


def test_a_remembered_file_is_not_read(file: Path, reads: Reads) -> None:
    remember(file, "noted")
    assert file_digest(file) == "noted"
    assert reads == []


def test_one_file_under_two_paths_is_read_once(file: Path, tmp_path: Path, reads: Reads) -> None:
    (tmp_path / "link").symlink_to(file)
    assert file_digest(file) == file_digest(tmp_path / "link")
    assert reads == [file]


def test_a_file_that_changes_while_it_is_read_is_read_again(
    file: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_age(file, 10)

    def interrupted(path: Path) -> str:
        digest = file_checksum(path)
        path.write_bytes(b"later")
        set_age(path, 5)
        return digest

    with monkeypatch.context() as patch:
        patch.setattr(digests, "file_checksum", interrupted)
        assert file_digest(file) == bytes_checksum(b"first")
    assert file_digest(file) == bytes_checksum(b"later")


def test_the_memory_lies_where_the_environment_says(file: Path, memory: Path, reads: Reads) -> None:
    file_digest(file)
    assert [path.name for path in memory.iterdir()] == ["digests.sqlite"]


def test_without_the_variable_the_memory_lies_in_the_home(
    file: Path, tmp_path: Path, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XTOKEN_CACHE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    file_digest(file)
    assert (tmp_path / "home" / ".cache" / "xtoken" / "digests.sqlite").is_file()


@pytest.mark.parametrize("content", [b"this is no database at all, " * 100, b"SQLite format 3\0" + b"\xff" * 4000])
def test_a_damaged_memory_is_replaced(file: Path, memory: Path, reads: Reads, content: bytes) -> None:
    memory.mkdir()
    (memory / "digests.sqlite").write_bytes(content)
    assert [file_digest(file) for _ in range(3)] == [bytes_checksum(b"first")] * 3
    assert len(reads) < 3


def under_a_file(memory: Path) -> None:
    memory.write_bytes(b"a file where a folder should be")


def occupied(memory: Path) -> None:
    (memory / "digests.sqlite").mkdir(parents=True)


def of_another_shape(memory: Path) -> None:
    memory.mkdir()
    connection = sqlite3.connect(memory / "digests.sqlite")
    connection.execute("CREATE TABLE file_checksums (unknown TEXT)")
    connection.close()


@pytest.mark.parametrize("spoil", [under_a_file, occupied, of_another_shape])
def test_without_a_usable_memory_files_are_simply_read(
    file: Path, memory: Path, reads: Reads, spoil: Callable[[Path], None]
) -> None:
    spoil(memory)
    assert [file_digest(file) for _ in range(2)] == [bytes_checksum(b"first")] * 2
    assert reads == [file, file]


def test_without_a_home_files_are_simply_read(file: Path, reads: Reads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XTOKEN_CACHE_DIR")
    monkeypatch.delenv("HOME", raising=False)

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert file_digest(file) == bytes_checksum(b"first")


def test_a_missing_file_is_an_error(tmp_path: Path, memory: Path) -> None:
    with pytest.raises(FileNotFoundError):
        file_digest(tmp_path / "missing")


def test_a_name_that_is_not_unicode_is_remembered(tmp_path: Path, reads: Reads) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9")
    path.write_bytes(b"first")
    assert file_digest(path) == file_digest(path) == bytes_checksum(b"first")
    assert reads == [path]
    assert folder_digest(path.parent)


def test_threads_share_the_memory(tmp_path: Path, reads: Reads) -> None:
    files = [tmp_path / f"{i}.txt" for i in range(20)]
    for path in files:
        path.write_text(path.name)
    with ThreadPoolExecutor(8) as pool:
        first = list(pool.map(file_digest, files))
        second = list(pool.map(file_digest, files))
    assert first == second == [bytes_checksum(path.name.encode()) for path in files]
    assert sorted(reads) == sorted(files)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "nested").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "weights.bin").write_bytes(b"\0" * 10)
    (folder / "nested" / "notes.txt").write_text("notes")
    return folder


def test_a_folder_is_its_names_and_contents(folder: Path, memory: Path) -> None:
    seen = {folder_digest(folder)}
    (folder / "config.json").write_text("{} ")
    seen.add(folder_digest(folder))
    (folder / "config.json").rename(folder / "settings.json")
    seen.add(folder_digest(folder))
    (folder / "weights.bin").unlink()
    seen.add(folder_digest(folder))
    assert len(seen) == 4


def test_a_folder_is_only_the_files_that_match(folder: Path, memory: Path) -> None:
    before = folder_digest(folder, ("*.json", "config*"))
    (folder / "weights.bin").write_bytes(b"changed")
    (folder / "nested" / "config.json").write_text("other")
    assert folder_digest(folder, ("*.json",)) == before
    assert folder_digest(folder) != before


def test_a_folder_keeps_its_digest_when_it_moves(folder: Path, memory: Path) -> None:
    before = folder_digest(folder)
    assert folder_digest(folder.rename(folder.with_name("moved"))) == before


@pytest.mark.parametrize("name", ["model", "missing"])
def test_no_matching_file_is_an_error_and_not_a_digest(folder: Path, memory: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match=rf"{name} has no file that matches \*\.gguf, \*\.pt"):
        folder_digest(folder.with_name(name), ("*.gguf", "*.pt"))
