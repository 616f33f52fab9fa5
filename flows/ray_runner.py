"""Shards made on the nodes of a Ray cluster."""

from dataclasses import dataclass
from functools import cached_property
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
        """`work` in Ray's object store, once for all shards: it holds the manifests of what it reads."""
        return ray.put(self.work)

    def __call__(self, index: int, key: str, advance: Advance) -> FileEntry:
        """See `WriteShard`; how far it is nobody sees."""
        try:
            remote: Any = ray.remote(write_unseen)
            entry: FileEntry = ray.get(remote.remote(self.shared, index, key))
        except RayTaskError as error:
            raise error.cause from None
        return entry


def write_unseen(work: ShardWork, index: int, key: str) -> FileEntry:
    """Make and write a shard where nobody watches."""
    return work.write(index, key, work.make(index, lambda _units: None))
