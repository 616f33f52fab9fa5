"""The loop of every stage from shards to shards: skip what is finished, make the rest, write the manifest last."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.errors import is_users_to_fix
from flows.progress import Advance, progress
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
    calls `advance` with units as it goes; `summarise` turns the finished entries into the manifest's stats.
    """

    title: str
    writer: ArtifactWriter
    keys: list[str]
    units: list[int]
    make: Callable[[int, Advance], ShardContent]
    summarise: Callable[[list[FileEntry]], dict[str, Any]] = lambda _entries: {}

    def run(self) -> Artifact:
        """Make what is missing or damaged and return the finished artifact."""
        with artifact_lock(self.writer.folder):
            artifact = self.writer.complete()
            if artifact is not None:
                logger.info("%s: reused %s", self.title, self.writer.folder)
                return artifact
            return self._run()

    def _run(self) -> Artifact:
        entries = [self.writer.finished(shard_name(i), key) for i, key in enumerate(self.keys)]
        missing = [i for i, entry in enumerate(entries) if entry is None]
        if len(missing) < len(entries):
            logger.info("%s: reused %d of %d shards", self.title, len(entries) - len(missing), len(entries))
        with progress(self.title, sum(self.units[i] for i in missing)) as advance:
            for i in missing:
                entries[i] = write_shard.with_options(task_run_name=f"{self.title} {shard_name(i)}")(self, i, advance)
        finished = [entry for entry in entries if entry is not None]
        logger.info("%s: made %d shard(s) in %s", self.title, len(missing), self.writer.folder)
        return self.writer.finish(finished, self.summarise(finished))


def worth_retrying(_task: Any, _run: Any, state: Any) -> bool:
    """Retry only what may pass by itself: a network hiccup, not a wrong input or a full disk."""
    error = state.result(raise_on_failure=False)
    return not (isinstance(error, BaseException) and is_users_to_fix(error))


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=5, retry_condition_fn=worth_retrying)
def write_shard(stage: ShardStage, index: int, advance: Advance) -> FileEntry:
    """Make one shard and write it; Prefect retries it, a later run finds it finished."""
    content = stage.make(index, advance)
    return stage.writer.write_table(shard_name(index), stage.keys[index], content.table, content.stats)
