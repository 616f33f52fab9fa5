import threading
import time
from contextvars import ContextVar

import pytest

from flows.config import PrepareConfig
from flows.runners import Here, in_threads, runner_of

WHO: ContextVar[str] = ContextVar("who", default="nobody")


def test_all_items_are_worked_on_in_the_context_of_the_caller() -> None:
    token = WHO.set("the caller")
    done = dict(in_threads(lambda item: (item * item, WHO.get()), range(20), 3))
    WHO.reset(token)
    assert done == {item: (item * item, "the caller") for item in range(20)}


def test_so_many_at_once_and_no_more() -> None:
    both = threading.Barrier(2, timeout=60)
    most = [0, 0]
    lock = threading.Lock()

    def work(item: int) -> None:
        with lock:
            most[0] += 1
            most[1] = max(most)
        both.wait()  # passes only where two are at work
        with lock:
            most[0] -= 1

    assert len(list(in_threads(work, range(6), 2))) == 6
    assert most == [0, 2]


def test_after_an_error_nothing_is_begun_and_what_is_under_way_is_finished() -> None:
    begun, finished = [], []
    failing = threading.Event()

    def work(item: int) -> None:
        begun.append(item)
        if item == 0:
            failing.set()
            raise ValueError("item 0")
        failing.wait(60)
        time.sleep(0.1)
        finished.append(item)

    with pytest.raises(ValueError, match="item 0"):
        list(in_threads(work, range(9), 2))
    assert sorted(begun) == [0, 1]
    assert finished == [1]


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(64)))


def test_threads_are_as_many_as_asked_for_else_bounded_by_cores_and_memory(cores: None) -> None:
    assert runner_of(PrepareConfig(threads=3)) == Here(3)
    assert runner_of(PrepareConfig()) == Here(8)
