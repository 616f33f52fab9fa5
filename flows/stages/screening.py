"""Windows -> near-duplicate documents, and documents that hold passages of evaluation sets.

A shard says of each part of a document in a shard of the windows its signature and what it shares with evaluation sets.
What is done about it is decided from all shards together, so that another decision makes no shard anew.
"""

import json

import numpy as np
import pyarrow as pa

from flows.config import RunConfig
from flows.corpus import corpus_of, find_evaluation_sets
from flows.progress import Advance
from flows.runners import runner_of
from flows.sharding import ShardContent, ShardStage
from flows.stages.document_parts import DocumentParts, document_parts, goes_on
from flows.stages.evaluation_passages import EvaluationPassages
from flows.stages.findings import Policy, Verdicts, judge
from storage.artifact import Artifact, ArtifactSpec, ArtifactWriter
from storage.hashing import fingerprint
from storage.manifest import FileEntry
from storage.schemas import SCREENING
from storage.screening import DROPPED_NAME, FINDINGS_NAME, KIND
from storage.shards import table_shards
from storage.workspace import Workspace
from xtoken_core.text.minhash import BINS, signatures
from xtoken_core.text.ngrams import run_bytes
from xtoken_core.text.words import Words, words_of

ALGORITHM_VERSION = 2
_DEFAULT_THRESHOLD = 0.8
_DEFAULT_NGRAM = 13


def build_screening(config: RunConfig, windows: Artifact) -> Artifact | None:
    """Screen a corpus; None where the config asks for nothing.

    Raises:
        CorpusError: if an evaluation set is missing or cannot be read.
    """
    passages = EvaluationPassages(find_evaluation_sets(corpus_of(config)), config.screening.ngram or _DEFAULT_NGRAM)
    if config.screening.near_duplicates == "off" and not passages.names:
        return None
    policy = _policy(config)
    upstream = {"windows": windows.manifest.fingerprint, "policy": policy.key}
    spec = ArtifactSpec(KIND, ALGORITHM_VERSION, {"evaluation_sets": passages.key}, upstream)
    workspace, shards = Workspace(config.workspace), windows.manifest.shards
    folder = workspace.screening(spec)
    writer = ArtifactWriter(folder, spec, workspace.shelf(folder))

    def make(index: int, advance: Advance) -> ShardContent:
        content = _content(windows, index, passages)
        advance(shards[index].rows)
        return content

    def conclude(entries: list[FileEntry]) -> list[FileEntry]:
        too_short = passages.read().too_short if passages.names else {}
        return _write(writer, judge(windows, table_shards(folder, entries), policy, too_short))

    stage = ShardStage(
        title="screening",
        writer=writer,
        units=[shard.rows for shard in shards],
        key=lambda index, _: _key(windows, index),
        make=make,
        conclude=conclude,
        runner=runner_of(config.prepare),
    )
    return stage.run()


def _policy(config: RunConfig) -> Policy:
    settings = config.screening
    threshold = _DEFAULT_THRESHOLD if settings.threshold is None else settings.threshold
    return Policy(settings.near_duplicates, threshold, drops_overlaps=settings.overlap == "drop")


def _key(windows: Artifact, index: int) -> str:
    """Of the windows in the shard, and of the shard into which its last document goes on."""
    checksums = [shard.checksum for shard in windows.manifest.shards[index : index + 1 + goes_on(windows, index)]]
    return fingerprint(checksums)


def _content(windows: Artifact, index: int, passages: EvaluationPassages) -> ShardContent:
    parts, table = document_parts(windows, index), windows.table(index)
    words = words_of(parts.texts)
    rows = np.diff(np.append(parts.first_rows, table.num_rows))
    sizes = (table["byte_end"].to_numpy() - table["byte_start"].to_numpy()).astype(np.int64)
    signature = pa.FixedSizeListArray.from_arrays(pa.array(signatures(words).reshape(-1)), BINS)
    columns = [
        *(table[name].take(pa.array(parts.first_rows)) for name in ("doc_id", "split", "byte_start")),
        rows.astype(np.int32),
        np.add.reduceat(sizes, parts.first_rows),
        signature,
        *_shared(parts, words, passages),
    ]
    return ShardContent(pa.table(columns, schema=SCREENING))


def _shared(parts: DocumentParts, words: Words, passages: EvaluationPassages) -> list[pa.Array]:
    """The sets that each part shares a passage with, and the passages."""
    sets: list[list[str]] = [[] for _ in range(len(parts.texts))]
    texts: list[list[str]] = [[] for _ in range(len(parts.texts))]
    for found in passages.read().shared(words) if passages.names else ():
        start, end = run_bytes(words, found.text, found.word, found.run)
        sets[found.text].append(found.set_name)
        texts[found.text].append(parts.texts.row(found.text)[start:end].tobytes().decode().strip())
    return [pa.array(column, pa.list_(pa.string())) for column in (sets, texts)]


def _write(writer: ArtifactWriter, verdicts: Verdicts) -> list[FileEntry]:
    findings, key = verdicts.findings, writer.spec.fingerprint
    stats = {
        "documents": findings.corpus.documents,
        "copies": findings.copies.documents,
        "near_duplicates": findings.near_duplicates.documents,
        "overlapping": sum(overlap.train.documents + overlap.heldout.documents for overlap in findings.overlaps),
        "dropped_documents": findings.dropped.documents,
    }
    report = json.dumps(findings.model_dump(), indent=1, ensure_ascii=False).encode()
    return [
        writer.write_table(DROPPED_NAME, key, verdicts.dropped),
        writer.write_bytes(FINDINGS_NAME, key, report, {name: float(count) for name, count in stats.items()}),
    ]
