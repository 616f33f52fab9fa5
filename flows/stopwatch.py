"""Seconds by stage, kept over interrupted attempts."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from storage.errors import StorageError
from storage.files import write_atomic

SAVE_SECONDS = 5.0


class Stopwatch:
    """Adds up the time that each stage took, over all attempts of a run; the sums lie in one JSON file.

    The file is written every `save_seconds`: of an attempt that was killed, no more than that is not counted.
    """

    def __init__(self, path: Path, save_seconds: float = SAVE_SECONDS) -> None:
        self._path = path
        self._save_seconds = save_seconds
        self.seconds: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time inside the block, whether or not it succeeds."""
        before, start = self.seconds.get(name, 0.0), time.perf_counter()

        def save() -> None:
            self.seconds[name] = round(before + time.perf_counter() - start, 2)
            write_atomic(self._path, json.dumps(self.seconds).encode())

        ended = threading.Event()
        clock = threading.Thread(target=_repeat, args=(save, self._save_seconds, ended), daemon=True)
        clock.start()
        try:
            yield
        finally:
            ended.set()
            clock.join()
            save()


def _repeat(save: Callable[[], None], seconds: float, ended: threading.Event) -> None:
    while not ended.wait(seconds):
        with suppress(StorageError):  # the work itself, or the last save, meets the same refusal and reports it
            save()
