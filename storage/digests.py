"""File digests, remembered by path, size, times and inode.

A terabyte of shards or a model's weights are read once, not at every command. A modification time can be set back, as
copying tools do; the time of the last change (ctime) cannot. The memory is one SQLite file per user
(`$XTOKEN_CACHE_DIR`, else `~/.cache/xtoken`); losing it costs time and nothing else.
"""

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from storage.hashing import file_checksum, fingerprint

_TABLE = """CREATE TABLE IF NOT EXISTS file_checksums
(path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, inode TEXT, digest TEXT)"""
_INSERT = "INSERT OR REPLACE INTO file_checksums VALUES (?, ?, ?, ?, ?, ?)"
_SELECT = "SELECT digest FROM file_checksums WHERE (path, size, mtime_ns, ctime_ns, inode) = (?, ?, ?, ?, ?)"
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def remember(path: Path, digest: str) -> None:
    """Note the digest of a file that was just written, so that it need not be read back."""
    _note(path, path.stat(), digest)


def file_digest(path: Path, fresh: bool = False) -> str:
    """The checksum of a file, read only if it changed since the last call by all that the file system says.

    `fresh` reads it anyway, to find what no file system says: a disk that gives back other bytes than were written.
    """
    # Taken before reading: if the file changes meanwhile, the digest is noted for a state that is gone.
    stat = path.stat()
    known = None if fresh else _recall(path, stat)
    if known is not None:
        return known
    digest = file_checksum(path)
    _note(path, stat, digest)
    return digest


def folder_digest(folder: Path, patterns: tuple[str, ...] = ("*",)) -> str:
    """One digest for the files of a folder that match `patterns` (not its sub-folders), by name and content.

    Raises:
        FileNotFoundError: if no file matches; otherwise all missing folders would look the same.
    """
    files = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
    if not files:
        raise FileNotFoundError(f"{folder} has no file that matches {', '.join(patterns)}: check the path")
    return fingerprint([[path.name, file_digest(path)] for path in files])


def _key(path: Path, stat: os.stat_result) -> tuple[bytes, int, int, int, str]:
    inode = str(stat.st_ino)  # up to 2^64, which no integer column holds
    return os.fsencode(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, inode


def _note(path: Path, stat: os.stat_result, digest: str) -> None:
    _execute(_INSERT, (*_key(path, stat), digest))


def _recall(path: Path, stat: os.stat_result) -> str | None:
    row = _execute(_SELECT, _key(path, stat))
    return row[0] if row else None


def _execute(statement: str, values: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """The first row; None where there is none or no usable database, which must not stop the work."""
    try:
        database = _database()
    except (OSError, RuntimeError):  # a read-only home, or none at all
        return None
    try:
        with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
            connection.execute("PRAGMA synchronous = OFF")  # what a power cut loses is read again
            connection.execute(_TABLE)
            return connection.execute(statement, values).fetchone()
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) in _DAMAGED:
            with suppress(OSError):
                database.unlink()  # the next call starts a new one
        return None


def _database() -> Path:
    folder = Path(os.environ.get("XTOKEN_CACHE_DIR") or Path.home() / ".cache" / "xtoken")
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "digests.sqlite"
