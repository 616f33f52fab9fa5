"""Corpus -> windows: documents cut into slices, before any tokenizer sees them.

Shards follow the files of the corpus. Beside the shards of a file lies `reading-NNNNN.json`: how many documents it
gave, and what it held that is none. It is written last, when the file was seen to be what it was before it was read:
shards without it may hold text that the file had for a while only.
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
    BadRows,
    SourceFile,
    corpus_of,
    find_sources,
    log_left_out,
    read_documents,
    require_documents,
    require_unchanged,
)
from flows.errors import CorpusError
from flows.memory import release_free_memory
from flows.progress import Advance, progress
from flows.sharding import worth_retrying
from flows.stages.documents import Cutter, shards_of
from storage.artifact import Artifact, ArtifactSpec, ArtifactWriter, read_table, shard_name
from storage.lock import artifact_lock
from storage.manifest import FileEntry
from storage.windows import KIND, Reading, occurrences_agree, read_reading, readings
from storage.workspace import Workspace
from xtoken_core.occurrences import Occurrences

logger = logging.getLogger(__name__)

ALGORITHM_VERSION = 4
_TASK_SECONDS = 5.0  # a Prefect task of its own would take longer than a small file


def build_windows(config: RunConfig) -> Artifact:
    """Cut the corpus into windows.

    Raises:
        CorpusError: if the corpus is missing, unreadable or without any text.
    """
    files = find_sources(corpus_of(config))
    spec = ArtifactSpec(KIND, ALGORITHM_VERSION, _inputs(config), {"files": [file.key for file in files]})
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
        return _WindowsStage(config, writer).run(files)


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
    shards: list[FileEntry] = field(default_factory=list)
    readings: list[FileEntry] = field(default_factory=list)
    seen: Occurrences = field(default_factory=Occurrences)

    def run(self, files: list[SourceFile]) -> Artifact:
        with progress("windows", len(files)) as advance:
            while len(self.readings) < len(files):
                name = f"windows {files[len(self.readings)].name}"
                make_window_shards.with_options(task_run_name=name)(partial(self._go_on, files, advance))
        found = [read_reading(self.writer.folder / entry.name) for entry in self.readings]
        require_documents(corpus_of(self.config), files, found)
        self._check()
        release_free_memory()
        logger.info("windows: %d windows in %s", sum(entry.rows for entry in self.shards), self.writer.folder)
        return self.writer.finish([*self.shards, *self.readings])

    def _go_on(self, files: list[SourceFile], advance: Advance) -> None:
        """Do the next file, and more of them for some seconds."""
        until = time.monotonic() + _TASK_SECONDS
        while True:
            file = files[len(self.readings)]
            if not self._reuse(file):
                self._make(file)
            advance(1)
            if len(self.readings) == len(files) or time.monotonic() > until:
                return

    def _make(self, file: SourceFile) -> None:
        """Write the shards of one file that are not there, each while the next is read, and then what was read."""
        self.writer.forget(self._end(file)[0])
        self.seen.take_back()
        bad_rows = BadRows(fatal=corpus_of(self.config).bad_rows == "error")
        cutter = Cutter(self.config, file.source, self.seen)
        entries = self._shards(file, cutter.tables(read_documents(file, bad_rows)))
        require_unchanged(file)
        reading = _reading(file, len(entries), cutter, bad_rows).model_dump_json().encode()
        self._enter(entries, self.writer.write_bytes(*self._end(file), reading))

    def _shards(self, file: SourceFile, tables: Iterator[pa.Table]) -> list[FileEntry]:
        shards: list[Future[FileEntry]] = []
        reused = 0
        with ThreadPoolExecutor(1, thread_name_prefix="writes") as pool:
            for table in shards_of(tables, self.config.windows.windows_per_shard):
                if len(shards) > 1:
                    shards[-2].result()  # at most one is written and one waits, or memory would grow with the file
                place = self._place(file, len(shards))
                entry = self._there(*place, table)
                reused += entry is not None
                shards.append(pool.submit(self._write, *place, table, entry))
        if reused:
            logger.info("windows: reused %d of %d shards of %s", reused, len(shards), file.name)
        return [shard.result() for shard in shards]

    def _there(self, name: str, key: str, table: pa.Table) -> FileEntry | None:
        """The shard that an interrupted run left, if it holds these rows: the file may have been another meanwhile."""
        entry = self.writer.finished(name, key)
        return entry if entry and read_table(self.writer.folder / name).equals(table) else None

    def _write(self, name: str, key: str, table: pa.Table, entry: FileEntry | None) -> FileEntry:
        stats = {"bytes": float(pc.sum(pc.subtract(table["byte_end"], table["byte_start"])).as_py())}
        return entry or self.writer.write_table(name, key, table, stats)

    def _enter(self, shards: list[FileEntry], reading: FileEntry) -> None:
        self.shards += shards
        self.readings.append(reading)
        self.seen.keep()

    def _place(self, file: SourceFile, index: int) -> tuple[str, str]:
        """Name and key of a file's shard `index`, after the shards of the files before."""
        return shard_name(len(self.shards) + index), f"{file.key}/{index}"

    def _end(self, file: SourceFile) -> tuple[str, str]:
        return f"reading-{len(self.readings):05d}.json", file.key

    def _reuse(self, file: SourceFile) -> bool:
        """Enter a file whose shards are all there, in this artifact or in that of a smaller or larger corpus."""
        places = self._places(file)
        everything = [self.writer.find(*place) for place in places]
        found = [one for one in everything if one is not None]
        # A reading says so of the shards beside it, not of those that an interrupted run left elsewhere.
        if not places or len(found) < len(places) or len({one.folder for one in found}) > 1:
            return False
        *shards, reading = found
        self.seen.take_back()
        if not all(occurrences_agree(read_table(shard.path), self.seen) for shard in shards):
            return False
        entries = [self.writer.take(name, one) for (name, _), one in zip(places, [*shards, reading], strict=True)]
        logger.info("windows: reused %d shard(s) of %s", len(shards), file.name)
        self._enter(entries[:-1], entries[-1])
        return True

    def _places(self, file: SourceFile) -> list[tuple[str, str]]:
        """Where the shards of a file and its reading belong, if it was read and is not to be refused."""
        found = self.writer.find(*self._end(file))
        if found is None:
            return []
        reading = read_reading(found.path)
        if reading.bad_rows and corpus_of(self.config).bad_rows == "error":
            return []
        return [*(self._place(file, index) for index in range(reading.shards)), self._end(file)]

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


def _reading(file: SourceFile, shards: int, cutter: Cutter, bad_rows: BadRows) -> Reading:
    return Reading(
        file=file.name,
        source=file.source.name,
        is_chat=file.source.messages_column is not None,
        shards=shards,
        documents=cutter.documents,
        bytes=cutter.bytes,
        empty=bad_rows.empty,
        bad_rows={str(reason): count for reason, count in bad_rows.counts.items()},
        examples=tuple(map(str, bad_rows.examples)),
    )


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=5, retry_condition_fn=worth_retrying)
def make_window_shards(work: Callable[[], None]) -> None:
    """Cut some files of the corpus; a retry starts the one that failed again."""
    work()
