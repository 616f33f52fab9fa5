"""Atomic file writing: a file under its final name is complete and on the disk, or is not there at all."""

import errno
import mmap
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile

from storage.errors import StorageError


def _free_bytes(folder: Path) -> str:
    try:
        return f"{shutil.disk_usage(folder).free:,} bytes free"
    except OSError:  # the full disk may have refused the folder itself
        return "free bytes unknown"


def _explain(error: OSError, path: Path) -> StorageError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(
            f"disk full while writing {path} ({_free_bytes(path.parent)}): free some space or move `workspace`, then "
            "run the same command again; finished shards are kept"
        )
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return StorageError(f"no permission to write {path}: make the folder writable or set another `workspace`")
    return StorageError(
        f"cannot write {path}: {error}; repair that or set another `workspace`, then run the same again"
    )


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success fsync it and rename it to `path`, on failure remove it.

    Raises:
        StorageError: for any refusal of the file system, naming the cause and the remedy.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise _explain(error, path) from error
    finally:
        with suppress(OSError):  # where nothing could be written nothing can be removed: keep the first error
            temporary.unlink()


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically (see `atomic_path`)."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def scratch(folder: Path, size: int) -> memoryview:
    """`size` zeros to work on, in a file of `folder` that has no name and ends with them: memory that can be paged out.

    Raises:
        StorageError: for any refusal of the file system. Its room is taken at once, since a disk that fills up under a
            mapped file ends the process without a word.
    """
    try:
        with TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, max(size, 1))  # nothing cannot be mapped
            return memoryview(mmap.mmap(file.fileno(), max(size, 1)))[:size]
    except OSError as error:
        raise _explain(error, folder) from error


def link_or_copy(source: Path, target: Path) -> None:
    """A second name for the file `source`, a copy of it where the file system has no hard links."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that killed writers left in `folder`; only for the holder of the artifact's lock."""
    for leftover in folder.glob(".*.tmp"):
        leftover.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Return when a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
