"""The loop of every stage from shards to shards: skip what is finished, make the rest, write the manifest last."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa
from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.errors import is_users_to_fix
from flows.progress import Advance, progress
from flows.runners import Here, Runner, in_threads
from storage.artifact import Artifact, ArtifactWriter, shard_name
from storage.lock import artifact_lock
from storage.manifest import FileEntry

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShardContent:
    """One shard to write, with the counts that its receipt keeps."""

    table: pa.Table
    stats: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ShardStage:
    """A stage whose shard i is made from input i alone.

    `keys[i]` is the hash of what shard i is made from, `units[i]` how much work it is, `make(i, advance)` makes it and
    calls `advance` with units as it goes; `summarise` turns the finished entries into the manifest's stats. `conclude`
    writes what is made from all shards together, and gives the entries of these files. `runner` says where shards are
    made, and how many at once.
    """

    title: str
    writer: ArtifactWriter
    keys: list[str]
    units: list[int]
    make: Callable[[int, Advance], ShardContent]
    summarise: Callable[[list[FileEntry]], dict[str, Any]] = lambda _entries: {}
    conclude: Callable[[list[FileEntry]], list[FileEntry]] = lambda _entries: []
    runner: Runner = field(default_factory=Here)

    def run(self) -> Artifact:
        """Make what is missing or damaged and return the finished artifact."""
        with artifact_lock(self.writer.folder):
            artifact = self.writer.complete()
            if artifact is not None:
                logger.info("%s: reused %s", self.title, self.writer.folder)
                return artifact
            return self._run()

    def write(self, index: int, advance: Advance) -> FileEntry:
        """Make one shard and write it, wherever this runs."""
        content = self.make(index, advance)
        return self.writer.write_table(shard_name(index), self.keys[index], content.table, content.stats)

    def _run(self) -> Artifact:
        entries = [self._there(index) for index in range(len(self.keys))]
        missing = [index for index, entry in enumerate(entries) if entry is None]
        if len(missing) < len(entries):
            logger.info("%s: reused %d of %d shards", self.title, len(entries) - len(missing), len(entries))
        with progress(self.title, sum(self.units[index] for index in missing)) as advance:
            for index, entry in in_threads(lambda i: self._write(i, advance), missing, self.runner.workers):
                entries[index] = entry
        finished = [entry for entry in entries if entry is not None]
        logger.info("%s: made %d shard(s) in %s", self.title, len(missing), self.writer.folder)
        return self.writer.finish([*finished, *self.conclude(finished)], self.summarise(finished))

    def _there(self, index: int) -> FileEntry | None:
        found = self.writer.find(shard_name(index), self.keys[index])
        return None if found is None else self.writer.take(shard_name(index), found)

    def _write(self, index: int, advance: Advance) -> FileEntry:
        return write_shard.with_options(task_run_name=f"{self.title} {shard_name(index)}")(self, index, advance)


def worth_retrying(_task: Any, _run: Any, state: Any) -> bool:
    """Retry only what may pass by itself: a network hiccup, not a wrong input or a full disk."""
    error = state.result(raise_on_failure=False)
    return not (isinstance(error, BaseException) and is_users_to_fix(error))


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=5, retry_condition_fn=worth_retrying)
def write_shard(stage: ShardStage, index: int, advance: Advance) -> FileEntry:
    """Make one shard and write it; Prefect retries it, a later run finds it finished."""
    return stage.runner.run(partial(stage.write, index), stage.units[index], advance)
