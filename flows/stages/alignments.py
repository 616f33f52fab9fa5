"""Token ids of student and teacher -> chunks, one artifact per pair."""

import pyarrow as pa

from flows.config import RunConfig
from flows.progress import Advance
from flows.sharding import ShardContent, ShardStage
from storage.alignments import KIND, alignments_table
from storage.artifact import Artifact, ArtifactSpec, ArtifactWriter
from storage.columns import from_list_column
from storage.hashing import fingerprint
from storage.workspace import Workspace
from xtoken_core.align import align_batch
from xtoken_core.vocabulary import Vocabulary

ALGORITHM_VERSION = 2


def build_alignments(
    config: RunConfig, student: Artifact, teacher: Artifact, vocabularies: tuple[Vocabulary, Vocabulary], name: str
) -> Artifact:
    """Align two tokens artifacts of the same windows; `vocabularies` are the student's and the teacher's."""
    inputs = {"student_tokens": student.manifest.fingerprint, "teacher_tokens": teacher.manifest.fingerprint}
    spec = ArtifactSpec(KIND, ALGORITHM_VERSION, inputs)
    pairs = list(zip(student.manifest.shards, teacher.manifest.shards, strict=True))

    def make(index: int, advance: Advance) -> ShardContent:
        content = _align(student.table(index), teacher.table(index), *vocabularies)
        advance(content.table.num_rows)
        return content

    stage = ShardStage(
        title=f"alignment {name}",
        writer=ArtifactWriter(Workspace(config.workspace).alignments(spec, name), spec),
        keys=[fingerprint([ours.checksum, theirs.checksum]) for ours, theirs in pairs],
        units=[shard.rows for shard in student.manifest.shards],
        make=make,
    )
    return stage.run()


def _align(
    student: pa.Table, teacher: pa.Table, student_vocabulary: Vocabulary, teacher_vocabulary: Vocabulary
) -> ShardContent:
    assert student["window_id"].equals(teacher["window_id"])
    student_ids, teacher_ids = from_list_column(student["ids"]), from_list_column(teacher["ids"])
    chunks = align_batch(student_ids, teacher_ids, student_vocabulary, teacher_vocabulary)
    table = alignments_table(student, teacher, chunks)
    counts = ("n_chunks", "n_exact", "n_bytes", "n_exact_bytes")
    stats = {name: float(table[name].to_numpy().sum()) for name in counts}
    tokens = {"student_tokens": float(len(student_ids.values)), "teacher_tokens": float(len(teacher_ids.values))}
    return ShardContent(table, stats | tokens)
