"""One lock per artifact, so that two processes can share a workspace.

The lock is the operating system's (flock), hence a killed process leaves none behind.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from storage.errors import StorageError

logger = logging.getLogger(__name__)


@contextmanager
def artifact_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of the artifact in `folder`; says so when it has to wait for another process."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f".{folder.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.warning("%s is in the making elsewhere: waiting for it", folder)
            lock.acquire()
    except OSError as error:
        raise StorageError(
            f"cannot lock {folder}: {error}; make its parent writable or set another `workspace`"
        ) from error
    try:
        yield
    finally:
        lock.release()
