"""Seconds by stage, kept over interrupted attempts."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.files import write_atomic


class Stopwatch:
    """Adds up the time that each stage took, over all attempts of a run; the sums lie in one JSON file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.seconds: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time inside the block, whether or not it succeeds."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 2)
            write_atomic(self._path, json.dumps(self.seconds).encode())
