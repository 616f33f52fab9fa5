"""One small artifact of every kind, made by the real parts, in the layout of a workspace."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from fakes import random_logits, records_of

from storage.alignments import alignments_table
from storage.artifact import Artifact, ArtifactSpec, ArtifactWriter, shard_name
from storage.columns import to_list_array
from storage.hashing import ids_hash
from storage.projections import TABLE, TENSORS, projection_bytes, projection_table
from storage.records import records_table
from storage.schemas import TOKENS, WINDOWS
from storage.vocabularies import store_vocabulary, vocabulary_spec
from storage.workspace import Workspace
from xtoken_core.align import align_batch
from xtoken_core.projection import ProjectionSettings, build_projection
from xtoken_core.ragged import Ragged
from xtoken_core.tokenizer import Tokenizer
from xtoken_core.topk import Codec, encode

TEXTS = (
    "Raises OverflowError if the integer is not representable with the given number of bytes.",
    "round(2.675, 2) gives 2.67 instead of 2.68; 1234567890 + 9876543210 = 11111111100\n",
    "Return True if the set has no elements in common with other.\nSets are disjoint if their intersection is empty.",
    "naïve café — “quotes” and 日本語 in one line",
    "a b c d e f",
    "",
)
SHARDS = ((0, 3), (3, 6))  # rows of TEXTS


@dataclass(frozen=True)
class SmallWorkspace:
    """The artifacts by kind; `window_ids[i]` is that of TEXTS[i]."""

    root: Path
    student: Tokenizer
    teacher: Tokenizer
    artifacts: dict[str, Artifact]
    window_ids: tuple[int, ...]


def make_workspace(root: Path, student: Tokenizer, teacher: Tokenizer) -> SmallWorkspace:
    """Everything but a run."""
    window_ids = tuple(2**63 + i for i in range(len(TEXTS)))
    workspace = Workspace(root)
    ids = {tokenizer: tokenizer.encode_batch(list(TEXTS)) for tokenizer in (student, teacher)}

    def aligned(rows: tuple[int, int]) -> pa.Table:
        ours, theirs = (_tokens(window_ids, ids[tokenizer], rows) for tokenizer in (student, teacher))
        parts = (slice_rows(ids[tokenizer], rows) for tokenizer in (student, teacher))
        return alignments_table(ours, theirs, align_batch(*parts, student.vocabulary, teacher.vocabulary))

    artifacts = {
        "windows": _sharded(workspace.windows, "windows", lambda rows: _windows(window_ids, rows)),
        "tokens": _sharded(workspace.tokens, "tokens", lambda rows: _tokens(window_ids, ids[student], rows)),
        "alignments": _sharded(lambda spec: workspace.alignments(spec, "teacher"), "alignments", aligned),
        "cache": _sharded(workspace.cache, "cache", lambda rows: _cache(window_ids, ids[teacher], teacher, rows)),
        "projection": _projection(workspace, student, teacher),
        "vocabulary": store_vocabulary(workspace.vocabulary(vocabulary_spec(student.vocabulary)), student.vocabulary),
    }
    return SmallWorkspace(root, student, teacher, artifacts, window_ids)


def slice_rows(rows: Ragged, span: tuple[int, int]) -> Ragged:
    return Ragged.from_lists([rows.row(i) for i in range(*span)], rows.values.dtype)


def _sharded(folder_of, kind: str, make) -> Artifact:  # type: ignore[no-untyped-def]
    spec = ArtifactSpec(kind, 1, {"made of": f"{kind} test texts"})
    writer = ArtifactWriter(folder_of(spec), spec)
    entries = []
    for index, rows in enumerate(SHARDS):
        table = make(rows)
        entries.append(writer.write_table(shard_name(index), f"key-{index}", table, {"counted": table.num_rows}))
    return writer.finish(entries)


def _windows(window_ids: tuple[int, ...], rows: tuple[int, int]) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "window_id": window_ids[i],
                "doc_id": i,
                "source": "texts",
                "split": "train",
                "byte_start": 0,
                "byte_end": len(TEXTS[i].encode()),
                "text": TEXTS[i],
            }
            for i in range(*rows)
        ],
        schema=WINDOWS,
    )


def _tokens(window_ids: tuple[int, ...], ids: Ragged, rows: tuple[int, int]) -> pa.Table:
    part = slice_rows(ids, rows)
    no_segments = to_list_array(Ragged(np.empty(0, dtype=np.int32), np.zeros(len(part) + 1, dtype=np.int64)))
    columns = [_uint64(window_ids, rows), to_list_array(part), to_list_array(_all_true(part)), no_segments, no_segments]
    return pa.table(columns, schema=TOKENS)


def _cache(window_ids: tuple[int, ...], ids: Ragged, teacher: Tokenizer, rows: tuple[int, int]) -> pa.Table:
    part = slice_rows(ids, rows)
    logits = random_logits(len(part.values), teacher.vocabulary.size, seed=rows[0])
    records = encode(records_of(teacher.vocabulary, logits, k=4), Codec.FLOAT16)
    hashes = np.array([ids_hash(row) for row in part], dtype=np.uint64)
    return records_table(np.array(window_ids[slice(*rows)], dtype=np.uint64), hashes, part.offsets, records)


def _projection(workspace: Workspace, student: Tokenizer, teacher: Tokenizer) -> Artifact:
    spec = ArtifactSpec("projection", 1, {"student": "s", "teacher": "t"})
    writer = ArtifactWriter(workspace.projection(spec), spec)
    projection = build_projection(student, teacher, ProjectionSettings())
    table = projection_table(projection, student.vocabulary, teacher.vocabulary)
    entries = [
        writer.write_bytes(TENSORS, "key", projection_bytes(projection, student.vocabulary, teacher.vocabulary)),
        writer.write_table(TABLE, "key", table),
    ]
    return writer.finish(entries, {"overlap": 7})


def _uint64(window_ids: tuple[int, ...], rows: tuple[int, int]) -> pa.Array:
    return pa.array(window_ids[slice(*rows)], pa.uint64())


def _all_true(ids: Ragged) -> Ragged:
    return Ragged(np.ones(len(ids.values), dtype=bool), ids.offsets)
