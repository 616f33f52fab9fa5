"""Progress of long work: a bar in a terminal, a progress artifact in the Prefect UI, else a log line."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import FlowRunContext
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

logger = logging.getLogger(__name__)

# The server handles an update in tens of milliseconds; more often than this nobody can read.
SECONDS_BETWEEN_UPDATES = 3.0
SECONDS_BETWEEN_LINES = 15.0

Advance = Callable[[int], None]


class _Reporter:
    """Tells the UI, or the log, how far the work is, at most every few seconds.

    Work must not end because nobody can be told of it: where the server refuses the artifact, it goes on without one.
    """

    def __init__(self, title: str, total: int) -> None:
        self.title = title
        self.total = max(total, 1)
        self.done = 0
        self.last = self.last_line = time.monotonic()
        self.artifact = _create(title)

    def advance(self, count: int) -> None:
        self.done += count
        if time.monotonic() - self.last >= SECONDS_BETWEEN_UPDATES:
            self.last = time.monotonic()
            self.report()

    def report(self) -> None:
        if not sys.stderr.isatty() and (self.done >= self.total or self.last - self.last_line >= SECONDS_BETWEEN_LINES):
            self.last_line = self.last
            logger.info("%s: %d of %d", self.title, self.done, self.total)
        self._update()

    def _update(self) -> None:
        if self.artifact is None:
            return
        try:
            update_progress_artifact(self.artifact, progress=min(100.0, 100.0 * self.done / self.total))
        except Exception as error:
            self.artifact = None
            _say_it_goes_on(self.title, error)


def _create(title: str) -> UUID | None:
    """The progress artifact of the current flow run; None outside of one, and where the server refuses it."""
    if FlowRunContext.get() is None:
        return None
    key = "".join(letter if letter.isalnum() else "-" for letter in title.lower())
    try:
        return create_progress_artifact(progress=0.0, key=key, description=title)  # type: ignore[return-value]
    except Exception as error:
        _say_it_goes_on(title, error)
        return None


def _say_it_goes_on(title: str, error: Exception) -> None:
    logger.warning(
        "%s: goes on, but the Prefect UI shows its progress no further: the server does not take it (%s: %s)",
        title,
        type(error).__name__,
        error,
    )


@contextmanager
def progress(title: str, total: int) -> Iterator[Advance]:
    """Show work of `total` units; call the yielded function with the number of units just done."""
    reporter = _Reporter(title, total)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=total)
        lock = Lock()  # shards in the making in several threads tell of their progress

        def advance(count: int) -> None:
            with lock:
                bar.advance(task, count)
                reporter.advance(count)

        yield advance
    reporter.report()
