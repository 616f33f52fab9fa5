"""Keeps out of the terminal's log what the command line says better.

Errors that their message explains are said once, at the end. Prefect's engine writes each of them once for the task,
with a traceback, once for the flow, and once more for the state in which each ends. And it writes a line for every task
that is done: a thousand shards would bury the warnings, and each stage says what it made. All of that still reaches the
Prefect UI, as does that a flow was interrupted, which is no crash.
"""

import logging
import re
from collections.abc import Iterable, Iterator

from flows.errors import is_users_to_fix, users_errors

# How Prefect names the error in the state of a task, and of a flow.
_FAILED = re.compile(r"Finished in state Failed\(.(?:Task|Flow) run encountered an exception:? (\w+)")
_LINK = "View at http"
_INTERRUPTED = "Execution was aborted by an interrupt signal"
_TASKS, _DONE = "prefect.task_runs", "Finished in state Completed()"


class TerminalFilter(logging.Filter):
    """Drops records about errors that are the user's to fix and about tasks done, and without a UI the links to it."""

    def __init__(self, has_ui: bool) -> None:
        super().__init__()
        self._has_ui = has_ui
        self._names = {error.__name__ for error in _with_subclasses(users_errors())}

    def filter(self, record: logging.LogRecord) -> bool:
        error, text = record.exc_info[1] if record.exc_info else None, record.getMessage()
        failed = _FAILED.match(text)
        if (record.name.startswith(_TASKS) and text == _DONE) or _INTERRUPTED in text:
            return False
        is_said_elsewhere = (error is not None and is_users_to_fix(error)) or (failed and failed[1] in self._names)
        return not is_said_elsewhere and (self._has_ui or not text.startswith(_LINK))


def _with_subclasses(errors: Iterable[type[BaseException]]) -> Iterator[type[BaseException]]:
    for error in errors:
        yield error
        yield from _with_subclasses(error.__subclasses__())


def filter_terminal(has_ui: bool) -> None:
    """Put the filter before what writes to the terminal, in place of an earlier one."""
    from prefect.logging.configuration import setup_logging

    setup_logging()
    for handler in logging.getLogger().handlers:
        handler.filters = [one for one in handler.filters if not isinstance(one, TerminalFilter)]
        handler.addFilter(TerminalFilter(has_ui))
