"""Token ids of student and teacher -> chunks, one artifact per pair."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from flows.config import RunConfig
from flows.progress import Advance
from flows.sharding import ShardContent, ShardStage
from storage.alignments import KIND, alignments_table
from storage.artifact import ArtifactSpec, ArtifactWriter, read_table, shard_name
from storage.columns import from_list_column
from storage.hashing import fingerprint
from storage.manifest import FileEntry
from storage.workspace import Workspace
from xtoken_core.align import AlignmentBatch, Segments, align_batch
from xtoken_core.ragged import Ragged, offsets_of
from xtoken_core.vocabulary import Vocabulary

ALGORITHM_VERSION = 3


def alignments_stage(
    config: RunConfig, student: ShardStage, teacher: ShardStage, vocabularies: tuple[Vocabulary, Vocabulary], name: str
) -> ShardStage:
    """The stage that aligns the tokens of two stages; `vocabularies` are the student's and the teacher's."""
    inputs = {"student": vocabularies[0].fingerprint, "teacher": vocabularies[1].fingerprint}
    folders = student.writer.folder, teacher.writer.folder
    upstream = {
        "student_tokens": student.writer.spec.fingerprint,
        "teacher_tokens": teacher.writer.spec.fingerprint,
    }
    spec = ArtifactSpec(KIND, ALGORITHM_VERSION, inputs, upstream)
    workspace = Workspace(config.workspace)
    folder = workspace.alignments(spec, name)

    def make(index: int, advance: Advance) -> ShardContent:
        ours, theirs = (read_table(folder / shard_name(index)) for folder in folders)
        content = _align(ours, theirs, *vocabularies)
        advance(content.table.num_rows)
        return content

    return ShardStage(
        title=f"alignment {name}",
        writer=ArtifactWriter(folder, spec, workspace.shelf(folder)),
        units=student.units,
        key=_key,
        make=make,
        after=(student, teacher),
        runner=student.runner,
    )


def _key(_index: int, entries: Sequence[FileEntry]) -> str:
    ours, theirs = (entries[0], entries[-1])  # one stage where both have the same tokens
    return fingerprint([ours.checksum, theirs.checksum])


def _align(
    student: pa.Table, teacher: pa.Table, student_vocabulary: Vocabulary, teacher_vocabulary: Vocabulary
) -> ShardContent:
    assert student["window_id"].equals(teacher["window_id"])
    sides = _Side.of(student), _Side.of(teacher)
    both = (sides[0].ids.lengths > 0) & (sides[1].ids.lengths > 0)
    ours, theirs = (side.only(both) for side in sides)
    segments = Segments(ours.segment_ends, theirs.segment_ends, ours.segment_leads, theirs.segment_leads)
    chunks = align_batch(ours.ids, theirs.ids, student_vocabulary, teacher_vocabulary, segments)
    table = alignments_table(student, teacher, _in_no_chunk(chunks, sides[0].ids.lengths, sides[1].ids.lengths, both))
    counts = ("n_chunks", "n_exact", "n_bytes", "n_exact_bytes")
    stats = {name: float(table[name].to_numpy().sum()) for name in counts}
    tokens = {"student_tokens": float(len(ours.ids.values)), "teacher_tokens": float(len(theirs.ids.values))}
    return ShardContent(table, stats | tokens)


@dataclass(frozen=True, eq=False)
class _Side:
    """The rows of a tokens shard."""

    ids: Ragged
    segment_ends: Ragged
    segment_leads: Ragged

    @classmethod
    def of(cls, tokens: pa.Table) -> "_Side":
        return cls(*(from_list_column(tokens[name]) for name in ("ids", "segment_ends", "segment_leads")))

    def only(self, rows: np.ndarray) -> "_Side":
        """The same with nothing in the other rows (bool [rows])."""
        return (
            self
            if rows.all()
            else _Side(*(_only(part, rows) for part in (self.ids, self.segment_ends, self.segment_leads)))
        )


def _only(ragged: Ragged, rows: np.ndarray) -> Ragged:
    values = ragged.values[ragged.offsets[0] : ragged.offsets[-1]]
    return Ragged(values[np.repeat(rows, ragged.lengths)], offsets_of(ragged.lengths * rows))


def _in_no_chunk(
    chunks: AlignmentBatch, student_lengths: np.ndarray, teacher_lengths: np.ndarray, both: np.ndarray
) -> AlignmentBatch:
    """Where one of the two does not read a window, all tokens of the other stand before its first chunk."""
    return replace(
        chunks,
        student_chunk_start0=np.where(both, chunks.student_chunk_start0, student_lengths).astype(np.int32),
        teacher_chunk_start0=np.where(both, chunks.teacher_chunk_start0, teacher_lengths).astype(np.int32),
    )
