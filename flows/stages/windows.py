"""Corpus -> windows: documents cut into slices, before any tokenizer sees them.

Shards follow the files of the corpus; small files that follow each other are a group and have theirs in common. Beside
the shards of a group lies `reading-NNNNN.json`: how many windows each file gave, and what it held that is no document.
It is written last, when the files were seen to be what they were before they were read: shards without it may hold text
that a file had for a while only.
"""

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.config import RunConfig
from flows.corpus import (
    FileGroup,
    SourceFile,
    corpus_of,
    find_sources,
    groups_of,
    log_left_out,
    require_documents,
)
from flows.errors import CorpusError
from flows.memory import release_free_memory
from flows.progress import Advance, progress
from flows.sharding import worth_retrying
from flows.stages.documents import shards_of
from flows.stages.group_reader import GroupReader
from storage.artifact import Artifact, ArtifactSpec, ArtifactWriter, Found, read_table, shard_name
from storage.hashing import fingerprint
from storage.lock import artifact_lock
from storage.manifest import FileEntry
from storage.windows import KIND, GroupReading, occurrences_agree, read_group_reading, readings
from storage.workspace import Workspace
from xtoken_core.occurrences import Occurrences

logger = logging.getLogger(__name__)

ALGORITHM_VERSION = 5
_TASK_SECONDS = 5.0  # a Prefect task of its own would take longer than a small group


def build_windows(config: RunConfig) -> Artifact:
    """Cut the corpus into windows.

    Raises:
        CorpusError: if the corpus is missing, unreadable or without any text.
    """
    files = find_sources(corpus_of(config))
    groups = groups_of(files)
    # The readings hold the names, which depend on where the files are, unlike all that is in the shards.
    upstream = {"groups": [group.key for group in groups], "names": fingerprint([file.name for file in files])}
    spec = ArtifactSpec(KIND, ALGORITHM_VERSION, _inputs(config), upstream)
    workspace = Workspace(config.workspace)
    folder = workspace.windows(spec)
    writer = ArtifactWriter(folder, spec, workspace.shelf(folder))
    with artifact_lock(writer.folder):
        artifact = writer.complete()
        if artifact is not None:
            _require_good_rows(config, artifact)
            for reading in readings(artifact):
                log_left_out(reading.file, reading.bad_rows, reading.examples, reading.empty)
            logger.info("windows: reused %s", writer.folder)
            return artifact
        return _WindowsStage(config, writer, groups).run(files)


def _require_good_rows(config: RunConfig, windows: Artifact) -> None:
    """CorpusError where bad rows are to be fatal, and were left out when these windows were made."""
    bad = [reading for reading in readings(windows) if reading.bad_rows]
    if bad and corpus_of(config).bad_rows == "error":
        raise CorpusError(
            f"{bad[0].file}: {bad[0].examples[0]}; repair the row, or set corpus.bad_rows: report to leave bad rows "
            "out and count them"
        )


def _inputs(config: RunConfig) -> dict[str, object]:
    return {"holdout": corpus_of(config).holdout, "windows": config.windows.model_dump()}


@dataclass
class _WindowsStage:
    """One pass over the files in order. Copies of a document are numbered over the whole corpus, hence the order."""

    config: RunConfig
    writer: ArtifactWriter
    groups: list[FileGroup]
    shards: list[FileEntry] = field(default_factory=list)
    readings: list[FileEntry] = field(default_factory=list)
    seen: Occurrences = field(default_factory=Occurrences)

    def run(self, files: list[SourceFile]) -> Artifact:
        with progress("windows", len(files)) as advance:
            while len(self.readings) < len(self.groups):
                name = f"windows {self._next.name}"
                make_window_shards.with_options(task_run_name=name)(partial(self._go_on, advance))
        found = [read_group_reading(self.writer.folder / entry.name) for entry in self.readings]
        require_documents(corpus_of(self.config), files, [reading for group in found for reading in group.files])
        self._check()
        release_free_memory()
        logger.info("windows: %d windows in %s", sum(entry.rows for entry in self.shards), self.writer.folder)
        return self.writer.finish([*self.shards, *self.readings])

    @property
    def _next(self) -> FileGroup:
        return self.groups[len(self.readings)]

    def _go_on(self, advance: Advance) -> None:
        """Do the next group, and more of them for some seconds."""
        until = time.monotonic() + _TASK_SECONDS
        while True:
            group = self._next
            if not self._reuse(group):
                self._make(group)
            advance(len(group.files))
            if len(self.readings) == len(self.groups) or time.monotonic() > until:
                return

    def _make(self, group: FileGroup) -> None:
        """Write the shards of one group that are not there, each while the next is read, and then what was read."""
        self.writer.forget(self._end(group)[0])
        self.seen.take_back()
        reader = GroupReader(self.config, group, self.seen)
        entries = self._shards(group, reader.tables())
        self._enter(entries, self._write_reading(group, reader.reading(len(entries))))

    def _shards(self, group: FileGroup, tables: Iterator[pa.Table]) -> list[FileEntry]:
        shards: list[Future[FileEntry]] = []
        reused = 0
        with ThreadPoolExecutor(1, thread_name_prefix="writes") as pool:
            for table in shards_of(tables, self.config.windows.windows_per_shard):
                if len(shards) > 1:
                    shards[-2].result()  # at most one is written and one waits, or memory would grow with the files
                place = self._place(group, len(shards))
                entry = self._there(*place, table)
                reused += entry is not None
                shards.append(pool.submit(self._write, *place, table, entry))
        if reused:
            logger.info("windows: reused %d of %d shards of %s", reused, len(shards), group.name)
        return [shard.result() for shard in shards]

    def _there(self, name: str, key: str, table: pa.Table) -> FileEntry | None:
        """The shard that an interrupted run left, if it holds these rows: the file may have been another meanwhile."""
        entry = self.writer.finished(name, key)
        return entry if entry and read_table(self.writer.folder / name).equals(table) else None

    def _write(self, name: str, key: str, table: pa.Table, entry: FileEntry | None) -> FileEntry:
        stats = {"bytes": float(pc.sum(pc.subtract(table["byte_end"], table["byte_start"])).as_py())}
        return entry or self.writer.write_table(name, key, table, stats)

    def _write_reading(self, group: FileGroup, reading: GroupReading) -> FileEntry:
        return self.writer.write_bytes(*self._end(group), reading.model_dump_json().encode())

    def _enter(self, shards: list[FileEntry], reading: FileEntry) -> None:
        self.shards += shards
        self.readings.append(reading)
        self.seen.keep()

    def _place(self, group: FileGroup, index: int) -> tuple[str, str]:
        """Name and key of a group's shard `index`, after the shards of the groups before."""
        return shard_name(len(self.shards) + index), f"{group.key}/{index}"

    def _end(self, group: FileGroup) -> tuple[str, str]:
        return f"reading-{len(self.readings):05d}.json", group.key

    def _reuse(self, group: FileGroup) -> bool:
        """Enter a group whose shards are all there, in this artifact or in that of a smaller or larger corpus."""
        end = self.writer.find(*self._end(group))
        reading = self._usable(end) if end else None
        if end is None or reading is None:
            return False
        places = [self._place(group, index) for index in range(reading.shards)]
        shards = [found for place in places if (found := self.writer.find(*place))]
        # A reading says so of the shards beside it, not of those that an interrupted run left elsewhere.
        if len(shards) < reading.shards or any(shard.folder != end.folder for shard in shards):
            return False
        self.seen.take_back()
        if not all(occurrences_agree(read_table(shard.path), self.seen) for shard in shards):
            return False
        entries = [self.writer.take(name, shard) for (name, _), shard in zip(places, shards, strict=True)]
        logger.info("windows: reused %d shard(s) of %s", len(shards), group.name)
        self._enter(entries, self._take_reading(group, end, reading))
        return True

    def _usable(self, found: Found) -> GroupReading | None:
        """A reading that was found, if its files are not to be refused."""
        reading = read_group_reading(found.path)
        is_strict = corpus_of(self.config).bad_rows == "error"
        return None if is_strict and any(file.bad_rows for file in reading.files) else reading

    def _take_reading(self, group: FileGroup, found: Found, reading: GroupReading) -> FileEntry:
        """The reading of these files in another corpus, where they may have had other names."""
        named = reading.named(file.name for file in group.files)
        return self._write_reading(group, named) if named != reading else self.writer.take(self._end(group)[0], found)

    def _check(self) -> None:
        """What only all shards together show, read one by one: so many files cannot be mapped at once."""
        ids = np.empty(sum(entry.rows for entry in self.shards), dtype=np.uint64)
        at = documents = heldout = 0
        for entry in self.shards:
            table = read_table(self.writer.folder / entry.name)
            firsts = table["split"].filter(pc.equal(table["byte_start"], 0))
            ids[at : at + entry.rows] = table["window_id"].to_numpy()
            at += entry.rows
            documents += len(firsts)
            heldout += pc.sum(pc.equal(firsts, "heldout")).as_py() or 0
        ids.sort()
        # 64 random bits collide among a billion windows with probability 0.03.
        assert (ids[1:] != ids[:-1]).all(), "two windows have one id"
        self._check_split(documents, heldout)

    def _check_split(self, documents: int, heldout: int) -> None:
        """Both sides of a split need a document; found out here, not by the trainer after hours of other stages."""
        holdout = corpus_of(self.config).holdout
        if holdout > 0 and heldout in (0, documents):
            share, remedy = ("none", "raise") if heldout == 0 else ("all", "lower")
            raise CorpusError(
                f"corpus.holdout: {holdout} holds out {share} of {documents} document(s), but training needs some held "
                f"out and some left: {remedy} it or add documents; 0 prepares windows that nothing is trained on"
            )


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=5, retry_condition_fn=worth_retrying)
def make_window_shards(work: Callable[[], None]) -> None:
    """Cut some groups of files; a retry starts the one that failed again."""
    work()
