"""Stages from shards to shards: what is finished is skipped, the rest is made, the manifest comes last.

Stages over the same shards run together: a shard is made as soon as those are there that it is made from. No stage
waits for the slowest shard of another, and while one tokenizer is loaded and proved the other one works.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.errors import is_users_to_fix
from flows.memory import release_free_memory
from flows.progress import Advance, progress
from flows.runners import Here, Runner, WriteShard, in_threads
from storage.artifact import Artifact, ArtifactWriter, Found, shard_name
from storage.lock import artifact_lock
from storage.manifest import FileEntry

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShardContent:
    """One shard to write, with the counts that its receipt keeps."""

    table: pa.Table
    stats: Mapping[str, float] = field(default_factory=dict)


Make = Callable[[int, Advance], ShardContent]


@dataclass(frozen=True, eq=False)
class ShardStage:
    """A stage whose shard i is made from input i alone.

    `units[i]` is how much work shard i is, `make(i, advance)` makes it and calls `advance` with units as it goes.
    `after` are the stages whose shard i it is made from; `key(i, entries)` is the hash of what shard i is made from,
    where `entries` are those of `after`. `summarise` turns the finished entries into the manifest's stats. `conclude`
    writes what is made from all shards together, and gives the entries of these files. `runner` says where shards are
    made, and how many at once.
    """

    title: str
    writer: ArtifactWriter
    units: Sequence[int]
    key: Callable[[int, Sequence[FileEntry]], str]
    make: Make
    after: tuple["ShardStage", ...] = ()
    summarise: Callable[[list[FileEntry]], dict[str, Any]] = lambda _entries: {}
    conclude: Callable[[list[FileEntry]], list[FileEntry]] = lambda _entries: []
    runner: Runner = field(default_factory=Here)

    def run(self) -> Artifact:
        """Make what is missing or damaged and return the finished artifact."""
        return run_stages(self.title, [self])[self].artifact


@dataclass(frozen=True)
class Made:
    """A finished stage. seconds: what its shards took just now, summed over those made at the same time."""

    artifact: Artifact
    seconds: float


def run_stages(title: str, stages: Sequence[ShardStage]) -> dict[ShardStage, Made]:
    """Make what is missing or damaged of stages over the same shards, on the runner of the first; `title` names them.

    A stage stands behind those that it comes after, and no two write the same artifact. Each is finished as soon as all
    of it is there, so that another process need not wait for the others.
    """
    with ExitStack() as all_locks:
        locks: dict[Path, ExitStack] = {}
        for folder in sorted(stage.writer.folder for stage in stages):  # in one order, or two processes could deadlock
            locks[folder] = all_locks.enter_context(ExitStack())
            locks[folder].enter_context(artifact_lock(folder))
        running: list[_Running] = []
        for stage in stages:
            running.append(_Running.of(stage, running, locks[stage.writer.folder]))
        _make_missing(title, running, stages[0].runner)
        return {one.stage: one.made for one in running}


def _make_missing(title: str, running: "list[_Running]", runner: Runner) -> None:
    """All that is missing, shard by shard, and of a shard stage by stage."""
    for one in running:
        one.finish_if_whole()
    missing = sorted((index, place) for place, one in enumerate(running) for index in one.missing())
    if not missing:
        return  # and where a runner has to be started it stays away

    def is_ready(item: tuple[int, int]) -> bool:
        return running[item[1]].is_ready(item[0])

    def provide(item: tuple[int, int]) -> _Provided:
        return running[item[1]].provide(item[0], advance)

    with progress(title, sum(running[place].stage.units[index] for index, place in missing)) as advance:
        for (index, place), provided in in_threads(provide, missing, runner.threads, is_ready):
            running[place].enter(index, provided)
            running[place].finish_if_whole()
    release_free_memory()


@dataclass(frozen=True)
class _Provided:
    """A shard that is there now. seconds: that it took to make it, None where it was there."""

    entry: FileEntry
    seconds: float | None


@dataclass(frozen=True, eq=False)
class _Work:
    """Makes the shards of a stage and writes them, wherever this runs."""

    make: Make
    writer: ArtifactWriter

    def write(self, index: int, key: str, content: ShardContent) -> FileEntry:
        """See `ShardWork`."""
        return self.writer.write_table(shard_name(index), key, content.table, content.stats)


@dataclass(eq=False)
class _Running:
    """A stage under way. entries: of the shards that are there. seconds: of each shard that was made.

    alike: stages before it that make the same shards of the same inputs: two teachers with one tokenizer and other
    sources have these shards in common. lock: of its artifact, which is let go when that is finished.
    """

    stage: ShardStage
    after: "list[_Running]"
    alike: "list[_Running]"
    write: WriteShard
    finished: Artifact | None
    lock: ExitStack
    entries: dict[int, FileEntry] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, stage: ShardStage, before: "list[_Running]", lock: ExitStack) -> "_Running":
        """With the shards that are there already; `before` are the stages that run too and stand before it."""
        after = [one for one in before if one.stage in stage.after]
        alike = [one for one in before if one.stage.writer.spec.makes_the_shards_of(stage.writer.spec)]
        bare = ArtifactWriter(stage.writer.folder, stage.writer.spec)  # what it writes it need not find elsewhere
        run = cls(stage, after, alike, stage.runner.spread(_Work(stage.make, bare)), stage.writer.complete(), lock)
        if run.finished is not None:
            run.entries = dict(enumerate(run.finished.manifest.shards))
        for index in run.missing():
            if run.is_ready(index) and (entry := run._there(index)):
                run.entries[index] = entry
        return run

    def missing(self) -> list[int]:
        """The shards that are still to be made."""
        return [index for index in range(len(self.stage.units)) if index not in self.entries]

    def is_ready(self, index: int) -> bool:
        """Whether all is there that shard `index` is made from, and nobody else is about to make it."""
        if not self._can_be_made(index):
            return False
        alike = (one for one in self.alike if one._can_be_made(index) and self._is_same(one, index))
        return all(index in one.entries for one in alike)

    def provide(self, index: int, advance: Advance) -> _Provided:
        """Shard `index`, made now unless it is there: what it is made from may just have been repaired."""
        entry = self._there(index)
        if entry is not None:
            advance(self.stage.units[index])
            return _Provided(entry, None)
        start, told = time.perf_counter(), 0

        def tell(units: int) -> None:
            nonlocal told
            told += units
            advance(units)

        named = write_shard.with_options(task_run_name=f"{self.stage.title} {shard_name(index)}")
        entry = named(self.write, index, self._key(index), tell)
        advance(self.stage.units[index] - told)  # all of it where nobody watched, less than none after a retry
        return _Provided(entry, time.perf_counter() - start)

    def enter(self, index: int, provided: _Provided) -> None:
        """Shard `index` is there."""
        self.entries[index] = provided.entry
        if provided.seconds is not None:
            self.seconds.append(provided.seconds)

    def finish_if_whole(self) -> None:
        """Write the manifest if there is none yet and all shards are there."""
        if len(self.entries) < len(self.stage.units):
            return
        if self.finished is None:
            self.finished = self._finish()
        else:
            logger.info("%s: reused %s", self.stage.title, self.finished.folder)
        self.lock.close()

    @property
    def made(self) -> Made:
        """The finished stage."""
        assert self.finished is not None
        return Made(self.finished, sum(self.seconds))

    def _finish(self) -> Artifact:
        title, writer = self.stage.title, self.stage.writer
        entries = [self.entries[index] for index in range(len(self.stage.units))]
        if reused := len(entries) - len(self.seconds):
            logger.info("%s: reused %d of %d shards", title, reused, len(entries))
        logger.info("%s: made %d shard(s) in %s", title, len(self.seconds), writer.folder)
        return writer.finish([*entries, *self.stage.conclude(entries)], self.stage.summarise(entries))

    def _can_be_made(self, index: int) -> bool:
        return all(index in one.entries for one in self.after)

    def _key(self, index: int) -> str:
        return self.stage.key(index, [one.entries[index] for one in self.after])

    def _there(self, index: int) -> FileEntry | None:
        """Shard `index` if it is there, undamaged, or another artifact has it."""
        found = self.stage.writer.find(shard_name(index), self._key(index)) or self._just_made(index)
        return None if found is None else self.stage.writer.take(shard_name(index), found)

    def _just_made(self, index: int) -> Found | None:
        """Shard `index` of a stage that makes the same."""
        same = (one for one in self.alike if index in one.entries and self._is_same(one, index))
        return next((Found(one.stage.writer.folder, one.entries[index]) for one in same), None)

    def _is_same(self, other: "_Running", index: int) -> bool:
        return other._key(index) == self._key(index)


def worth_retrying(_task: Any, _run: Any, state: Any) -> bool:
    """Retry only what may pass by itself: a network hiccup, not a wrong input or a full disk."""
    error = state.result(raise_on_failure=False)
    return not (isinstance(error, BaseException) and is_users_to_fix(error))


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=5, retry_condition_fn=worth_retrying)
def write_shard(write: WriteShard, index: int, key: str, advance: Advance) -> FileEntry:
    """Make one shard and write it; Prefect retries it, a later run finds it finished."""
    return write(index, key, advance)
