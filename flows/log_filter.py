"""Keeps the traceback of an error that its message explains out of the log; the command line prints the message."""

import logging

from flows.errors import is_users_to_fix


def hide_tracebacks_of_user_errors() -> None:
    """Filter the records that Prefect's engine writes when a flow or task raises."""
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logger = logging.getLogger(name)
        if _strip not in logger.filters:
            logger.addFilter(_strip)


def _strip(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if error is not None and is_users_to_fix(error):
        record.exc_info = None
        record.exc_text = None
        record.msg, record.args = "failed: %s", (error,)
    return True
