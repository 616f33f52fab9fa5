import threading
import time
from contextvars import ContextVar

import pytest

from flows.config import PrepareConfig
from flows.progress import Advance
from flows.runners import Here, in_threads, runner_of
from storage.manifest import FileEntry

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


def test_what_is_not_ready_waits_until_the_results_so_far_say_that_it_is() -> None:
    done: list[int] = []
    items = [5, 4, 1, 2, 3]
    for item, _ in in_threads(lambda _item: None, items, 2, lambda item: item == 1 or item - 1 in done):
        done.append(item)
    assert done == [1, 2, 3, 4, 5]


def test_while_a_shard_is_written_the_next_is_made() -> None:
    """With one worker, the second shard is made before the first one, which waits for that, is written."""
    made_second = threading.Event()

    class Work:
        def make(self, index: int, advance: Advance) -> int:
            if index == 1:
                made_second.set()
            return index

        def write(self, index: int, key: str, content: int) -> FileEntry:
            assert made_second.wait(60)
            return FileEntry(name=str(content), key=key, rows=0, bytes=0, checksum="")

    runner = Here(1)
    write = runner.spread(Work())
    written = in_threads(lambda index: write(index, f"key {index}", lambda _units: None), [0, 1], runner.threads)
    assert {(index, entry.name, entry.key) for index, entry in written} == {(0, "0", "key 0"), (1, "1", "key 1")}


def test_no_more_shards_are_made_at_once_than_there_are_workers() -> None:
    at_once = [0, 0]
    lock = threading.Lock()

    class Work:
        def make(self, index: int, advance: Advance) -> None:
            with lock:
                at_once[0] += 1
                at_once[1] = max(at_once)
            time.sleep(0.01)
            with lock:
                at_once[0] -= 1

        def write(self, index: int, key: str, content: None) -> FileEntry:
            return FileEntry(name="", key=key, rows=0, bytes=0, checksum="")

    write = Here(2).spread(Work())
    assert len(list(in_threads(lambda index: write(index, "", lambda _units: None), range(12), 6))) == 12
    assert at_once[1] == 2


def test_threads_are_as_many_as_asked_for_else_bounded_by_cores_and_memory(cores: None) -> None:
    assert runner_of(PrepareConfig(threads=3)) == Here(3)
    assert runner_of(PrepareConfig()) == Here(8)
