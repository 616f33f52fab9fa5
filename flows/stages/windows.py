"""Corpus -> windows: documents cut into slices, before any tokenizer sees them."""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice, pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.config import RunConfig
from flows.corpus import Source, corpus_of, find_sources, read_documents
from flows.errors import CorpusError
from flows.progress import progress
from flows.sharding import worth_retrying
from storage.artifact import Artifact, ArtifactSpec, ArtifactWriter, read_table, shard_name
from storage.hashing import hash64
from storage.lock import artifact_lock
from storage.manifest import FileEntry
from storage.schemas import WINDOWS
from storage.workspace import Workspace
from xtoken_core.windows import window_ends

logger = logging.getLogger(__name__)

KIND = "windows"
ALGORITHM_VERSION = 2


@dataclass(frozen=True)
class Window:
    """One row of the windows table."""

    window_id: int
    doc_id: int
    source: str
    split: str
    byte_start: int
    byte_end: int
    text: str


def build_windows(config: RunConfig) -> Artifact:
    """Cut the corpus into windows.

    Raises:
        CorpusError: if the corpus is missing, unreadable or without any text.
    """
    sources = find_sources(corpus_of(config))
    spec = ArtifactSpec(KIND, ALGORITHM_VERSION, _inputs(config, sources))
    writer = ArtifactWriter(Workspace(config.workspace).windows(spec), spec)
    with artifact_lock(writer.folder):
        artifact = writer.complete()
        if artifact is not None:
            logger.info("windows: reused %s", writer.folder)
            return artifact
        return _WindowsStage(config, writer).run(sources)


def _inputs(config: RunConfig, sources: list[Source]) -> dict[str, object]:
    corpus = corpus_of(config)
    return {
        "sources": [[source.name, source.digest] for source in sources],
        "text_column": corpus.text_column,
        "holdout": corpus.holdout,
        "windows": config.windows.model_dump(),
    }


@dataclass
class _WindowsStage:
    """One pass over the sources in order. Copies of a document are numbered over the whole corpus, hence the order."""

    config: RunConfig
    writer: ArtifactWriter
    entries: list[FileEntry] = field(default_factory=list)
    copies: Counter[int] = field(default_factory=Counter)

    def run(self, sources: list[Source]) -> Artifact:
        with progress("windows", len(sources)) as advance:
            for source in sources:
                finished = self._finished(source)
                self.entries += finished or make_window_shards.with_options(task_run_name=f"windows {source.name}")(
                    self, source
                )
                self._count_copies(finished)
                advance(1)
        self._check()
        logger.info("windows: %d windows in %s", sum(entry.rows for entry in self.entries), self.writer.folder)
        return self.writer.finish(self.entries)

    def make(self, source: Source) -> list[FileEntry]:
        """Write the shards of one source that are not there; the last one's receipt says that it is the last."""
        entries: list[FileEntry] = []
        reused = 0
        for part, is_last in _parts(self._windows(source), self.config.windows.windows_per_shard):
            entry = self._receipt(source, len(entries))
            reused += entry is not None
            entries.append(entry or self._write(source, len(entries), part, is_last))
        if reused:
            logger.info("windows: reused %d of %d shards of %s", reused, len(entries), source.name)
        return entries

    def _write(self, source: Source, index: int, part: list[Window], is_last: bool) -> FileEntry:
        stats = {"sources": float(is_last), "bytes": sum(w.byte_end - w.byte_start for w in part)}
        table = pa.Table.from_pylist([asdict(window) for window in part], schema=WINDOWS)
        return self.writer.write_table(*self._place(source, index), table, stats)

    def _receipt(self, source: Source, index: int) -> FileEntry | None:
        return self.writer.finished(*self._place(source, index))

    def _place(self, source: Source, index: int) -> tuple[str, str]:
        """Name and key of a source's shard `index`, after the shards of the sources before."""
        return shard_name(len(self.entries) + index), f"{source.digest}/{index}"

    def _windows(self, source: Source) -> Iterator[Window]:
        corpus = corpus_of(self.config)
        for text in read_documents(source, corpus.text_column):
            document = text.encode()
            doc_id = hash64(document)
            copy = self.copies[doc_id]
            self.copies[doc_id] += 1
            split = "heldout" if doc_id < corpus.holdout * 2**64 else "train"
            ends = window_ends(document, self.config.windows.max_bytes)
            for start, end in pairwise([0, *ends]):
                window_id = hash64(*(number.to_bytes(8, "little") for number in (doc_id, start, end, copy)))
                yield Window(window_id, doc_id, source.name, split, start, end, document[start:end].decode())

    def _finished(self, source: Source) -> list[FileEntry]:
        """The receipts of a source whose shards are all there, else nothing."""
        found: list[FileEntry] = []
        while not found or not found[-1].stats["sources"]:
            entry = self._receipt(source, len(found))
            if entry is None:
                return []
            found.append(entry)
        logger.info("windows: reused %d shard(s) of %s", len(found), source.name)
        return found

    def _count_copies(self, reused: list[FileEntry]) -> None:
        for entry in reused:
            table = read_table(self.writer.folder / entry.name)
            firsts = table["doc_id"].to_numpy()[table["byte_start"].to_numpy() == 0]
            self.copies.update(firsts.tolist())

    def _check(self) -> None:
        tables = [read_table(self.writer.folder / entry.name) for entry in self.entries]
        ids = np.concatenate([table["window_id"].to_numpy() for table in tables])
        if len(ids) == 0:
            raise CorpusError("the corpus holds no text: every row is empty; check corpus.files and corpus.text_column")
        # 64 random bits collide among a billion windows with probability 0.03.
        assert len(np.unique(ids)) == len(ids), "two windows have one id"
        self._check_split(tables)

    def _check_split(self, tables: list[pa.Table]) -> None:
        """Both sides of a split need a document; found out here, not by the trainer after hours of other stages."""
        holdout = corpus_of(self.config).holdout
        firsts = pa.concat_tables(table.select(["byte_start", "split"]) for table in tables)
        splits = firsts.filter(pc.field("byte_start") == 0)["split"]
        heldout = pc.sum(pc.equal(splits, "heldout")).as_py()
        if holdout > 0 and heldout in (0, len(splits)):
            share, remedy = ("none", "raise") if heldout == 0 else ("all", "lower")
            raise CorpusError(
                f"corpus.holdout: {holdout} holds out {share} of {len(splits)} document(s), but training needs some "
                f"held out and some left: {remedy} it or add documents; 0 prepares windows that nothing is trained on"
            )


def _parts(windows: Iterator[Window], size: int) -> Iterator[tuple[list[Window], bool]]:
    """Up to `size` windows at a time, and whether they are the last; without any there is one empty part."""
    part = list(islice(windows, size))
    while following := list(islice(windows, size)):
        yield part, False
        part = following
    yield part, True


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=5, retry_condition_fn=worth_retrying)
def make_window_shards(stage: _WindowsStage, source: Source) -> list[FileEntry]:
    """Cut one source file; a retry starts the file again with the copies counted so far."""
    copies = stage.copies.copy()
    try:
        return stage.make(source)
    except BaseException:
        stage.copies = copies
        raise
