"""Where the shards of a stage are made: in threads of this process, or on the nodes of a Ray cluster.

Either way a Prefect task in this process stands for each shard. What makes a shard is compiled code that lets other
threads run (tokenizing, aligning, checksums, writing), so that while one shard is written the next is in the making.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from threading import Semaphore
from typing import Any, Protocol, TypeVar

from flows.config import PrepareConfig
from flows.errors import is_users_to_fix
from flows.progress import Advance
from storage.manifest import FileEntry

Item = TypeVar("Item")
Result = TypeVar("Result")

# A shard in the making takes some 100 MB; more threads than this would take more memory than they save time.
_MOST_THREADS = 8


class ShardWork(Protocol):
    """What makes and writes the shards of a stage."""

    def make(self, index: int, advance: Advance) -> Any:
        """The content of shard `index`; tells `advance` of the units of work done."""

    def write(self, index: int, key: str, content: Any) -> FileEntry:
        """The entry of shard `index`, whose content is written under `key`."""


WriteShard = Callable[[int, str, Advance], FileEntry]


class Runner(Protocol):
    """Where shards are made, and how many at once."""

    @property
    def threads(self) -> int:
        """How many shards are under way at once."""

    def spread(self, work: ShardWork) -> WriteShard:
        """Makes and writes a shard, given its index and its key; tells of its progress as far as it can."""


@dataclass(frozen=True)
class Here:
    """This process: `workers` shards are made at once, and while one is written another one takes its place."""

    workers: int = 1
    _places: Semaphore = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_places", Semaphore(self.workers))

    @property
    def threads(self) -> int:
        """As many again for those that wait for the disk."""
        return 2 * self.workers

    def spread(self, work: ShardWork) -> WriteShard:
        """See `Runner`. After an error that trying again would not mend, shards that wait for a place are not made."""
        errors: list[Exception] = []

        def make(index: int, advance: Advance) -> Any:
            with self._places:
                if errors:
                    raise errors[0]
                with _kept(errors):
                    return work.make(index, advance)

        def write(index: int, key: str, advance: Advance) -> FileEntry:
            content = make(index, advance)
            with _kept(errors):
                return work.write(index, key, content)

        return write


@contextmanager
def _kept(errors: list[Exception]) -> Iterator[None]:
    """Adds to `errors` what trying again would not mend."""
    try:
        yield
    except Exception as error:
        if is_users_to_fix(error):
            errors.append(error)
        raise


def runner_of(config: PrepareConfig) -> Runner:
    """The runner that the config asks for."""
    if config.runner == "ray":
        from flows.ray_runner import OnRay  # takes a second to import

        return OnRay()
    return Here(config.threads or min(len(os.sched_getaffinity(0)), _MOST_THREADS))


def in_threads(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    is_ready: Callable[[Item], bool] = lambda _item: True,
) -> Iterator[tuple[Item, Result]]:
    """`work` of each item, as they are done, `workers` at once; each sees the context (the Prefect run) of the caller.

    Items are begun in their order, but for those that are not ready: they are passed over until the caller, who has
    got the results so far, says that they are. The first that waits for nothing must be ready.
    After an error, or when the caller is interrupted, nothing new is begun, and what is under way is finished first.
    """
    waiting = deque(items)
    pending: dict[Future[Result], Item] = {}

    with ThreadPoolExecutor(workers, thread_name_prefix="shards") as pool:
        while waiting or pending:
            while len(pending) < workers and (ready := next(filter(is_ready, waiting), None)) is not None:
                waiting.remove(ready)
                pending[pool.submit(copy_context().run, work, ready)] = ready
            assert pending, "items wait for each other"
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                yield pending.pop(future), future.result()
