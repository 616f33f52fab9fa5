"""Where the shards of a stage are made: in threads of this process, or on the nodes of a Ray cluster.

Either way a Prefect task in this process stands for each shard. What makes a shard is compiled code that lets other
threads run (tokenizing, aligning, checksums, writing), so that while one shard is written the next is in the making.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass
from typing import Protocol, TypeVar

from flows.config import PrepareConfig
from flows.progress import Advance

Result = TypeVar("Result")

# A shard in the making takes some 100 MB; more threads than this would take more memory than they save time.
_MOST_THREADS = 8


class Runner(Protocol):
    """Where work is done, and how much of it at once."""

    @property
    def workers(self) -> int:
        """How many shards are made at once."""

    def run(self, work: Callable[[Advance], Result], units: int, advance: Advance) -> Result:
        """The result of `work`, which is so many units; `advance` is told of them at the latest when it is done."""


@dataclass(frozen=True)
class Here:
    """This process, in `workers` threads."""

    workers: int = 1

    def run(self, work: Callable[[Advance], Result], units: int, advance: Advance) -> Result:
        """See `Runner`; `work` itself says how far it is."""
        return work(advance)


def runner_of(config: PrepareConfig) -> Runner:
    """The runner that the config asks for."""
    if config.runner == "ray":
        from flows.ray_runner import OnRay  # takes a second to import

        return OnRay.join()
    return Here(config.threads or min(len(os.sched_getaffinity(0)), _MOST_THREADS))


def in_threads(work: Callable[[int], Result], items: Sequence[int], workers: int) -> Iterator[tuple[int, Result]]:
    """`work` of each item, as they are done, `workers` at once; each sees the context (the Prefect run) of the caller.

    After an error, or when the caller is interrupted, nothing new is begun, and what is under way is finished first.
    """
    waiting = deque(items)
    pending: dict[Future[Result], int] = {}

    with ThreadPoolExecutor(workers, thread_name_prefix="shards") as pool:
        while waiting or pending:
            while waiting and len(pending) < workers:
                item = waiting.popleft()
                pending[pool.submit(copy_context().run, work, item)] = item
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                yield pending.pop(future), future.result()
