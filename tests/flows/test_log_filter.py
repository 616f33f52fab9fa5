"""What the terminal shows of an error that is the user's to fix: nothing, the command line says it at the end."""

import logging
from collections.abc import Iterator

import pytest

from flows.log_filter import TerminalFilter
from storage.errors import StorageError

SENTENCE = "disk full while writing /a/'b\\c: free some space"


class Kept(logging.Handler):
    """Keeps what reaches the terminal."""

    def __init__(self, has_ui: bool = True) -> None:
        super().__init__()
        self.messages: list[str] = []
        self.addFilter(TerminalFilter(has_ui))

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(self.format(record))


@pytest.fixture
def engine() -> Iterator[logging.Logger]:
    """Stands for Prefect's engine."""
    logger = logging.Logger("engine")
    yield logger
    logger.handlers.clear()


def fail(engine: logging.Logger, error: Exception) -> None:
    """Log an error as Prefect does."""
    try:
        raise error
    except Exception:
        engine.error(f"Task run failed with exception: {error!r}", exc_info=True)
    for who in ("Task run encountered an exception", "Flow run encountered an exception:"):
        message = f"{who} {type(error).__name__}: {error}"
        engine.error(f"Finished in state Failed({message!r})")


def test_an_error_of_the_users_is_left_to_the_command_line(engine: logging.Logger) -> None:
    terminal = Kept()
    engine.addHandler(terminal)
    fail(engine, StorageError(SENTENCE))
    fail(engine, StorageError("another"))
    engine.info("Finished in state Completed()")
    assert terminal.messages == ["Finished in state Completed()"]


def test_tasks_that_are_done_and_interrupts_are_not_listed(engine: logging.Logger) -> None:
    terminal = Kept()
    engine.addHandler(terminal)
    for name in ("prefect.task_runs", "prefect.flow_runs"):
        engine.name = name
        engine.info("Finished in state Completed()")
        engine.error("Crash detected! Execution was aborted by an interrupt signal.")
        engine.warning("something else")
    assert terminal.messages == ["something else", "Finished in state Completed()", "something else"]


def test_an_error_of_ours_is_shown_with_all_there_is(engine: logging.Logger) -> None:
    terminal = Kept()
    engine.addHandler(terminal)
    fail(engine, ZeroDivisionError(SENTENCE))
    failed, state, _ = terminal.messages
    assert "Traceback" in failed
    assert state.startswith("Finished in state Failed(")


def test_others_than_the_terminal_get_everything(engine: logging.Logger) -> None:
    everything = logging.Handler()
    records: list[logging.LogRecord] = []
    everything.emit = records.append  # type: ignore[method-assign]
    engine.addHandler(Kept())
    engine.addHandler(everything)
    fail(engine, StorageError(SENTENCE))
    assert len(records) == 3
    assert records[0].exc_info is not None


@pytest.mark.parametrize("has_ui", [True, False])
def test_links_to_a_ui_that_is_not_there_are_left_out(engine: logging.Logger, has_ui: bool) -> None:
    terminal = Kept(has_ui)
    engine.addHandler(terminal)
    engine.info("View at http://127.0.0.1:1/runs/flow-run/2")
    assert bool(terminal.messages) == has_ui
