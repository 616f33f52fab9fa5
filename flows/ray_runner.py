"""Shards made on the nodes of a Ray cluster."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import ray
from ray.exceptions import RayTaskError

from flows.progress import Advance
from flows.runners import ShardWork, WriteShard
from storage.manifest import FileEntry
from trainer.ray_session import ensure_ray


@dataclass(frozen=True)
class OnRay:
    """The Ray cluster that RAY_ADDRESS names, else Ray on this machine; joined when the first shard is missing."""

    @cached_property
    def threads(self) -> int:
        """The CPUs of the cluster."""
        ensure_ray()
        return max(int(ray.cluster_resources().get("CPU", 1)), 1)

    def spread(self, work: ShardWork) -> WriteShard:
        """See `Runner`; `work` travels pickled, its files must be where every node sees them."""
        return _Elsewhere(work)


@dataclass(frozen=True, eq=False)
class _Elsewhere:
    """Writes shards on some node."""

    work: ShardWork

    @cached_property
    def shared(self) -> Any:
        """`work` in Ray's object store, once for all shards; in a list, or each task would get a copy of its own."""
        return [ray.put(self.work)]

    def __call__(self, index: int, key: str, advance: Advance) -> FileEntry:
        """See `WriteShard`; how far it is nobody sees."""
        try:
            remote: Any = ray.remote(write_unseen)
            entry: FileEntry = ray.get(remote.remote(self.shared, index, key))
        except RayTaskError as error:
            raise error.cause from error  # which has the worker's traceback
        return entry


def write_unseen(shared: list[Any], index: int, key: str) -> FileEntry:
    """Make and write a shard where nobody watches; `shared` holds a reference to its `ShardWork`."""
    work = _fetched(shared[0])
    return work.write(index, key, work.make(index, lambda _units: None))


@lru_cache(maxsize=4)
def _fetched(reference: Any) -> ShardWork:
    """Kept by the worker for the next shard: loading a tokenizer takes fifty times as long as encoding one."""
    work: ShardWork = ray.get(reference)
    return work
