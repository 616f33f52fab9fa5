"""Vocabularies on disk: what each token id spells, so that a reader needs no tokenizer library."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from storage.artifact import Artifact, ArtifactSpec, ArtifactWriter, open_artifact, shard_name
from storage.lock import artifact_lock
from storage.schemas import VOCABULARY
from xtoken_core.ragged import Ragged
from xtoken_core.vocabulary import Vocabulary

KIND = "vocabulary"
ALGORITHM_VERSION = 1


def vocabulary_spec(vocabulary: Vocabulary) -> ArtifactSpec:
    """What determines a stored vocabulary: its own content."""
    inputs = {
        "vocabulary": vocabulary.fingerprint,
        "roles": dict(vocabulary.roles),
        "dummy_prefix": vocabulary.dummy_prefix,
    }
    return ArtifactSpec(KIND, ALGORITHM_VERSION, inputs)


def store_vocabulary(folder: Path, vocabulary: Vocabulary) -> Artifact:
    """Write `vocabulary` to `folder` unless it is there already."""
    writer = ArtifactWriter(folder, vocabulary_spec(vocabulary))
    with artifact_lock(folder):
        artifact = writer.complete()
        if artifact is None:
            entry = writer.write_table(shard_name(0), vocabulary.fingerprint, _table(vocabulary))
            artifact = writer.finish([entry])
    return artifact


def load_vocabulary(folder: Path) -> Vocabulary:
    """Read a stored vocabulary (ArtifactError if it is missing or damaged)."""
    artifact = open_artifact(folder, KIND)
    table = artifact.table(0).combine_chunks()
    spelling = table["bytes"].chunk(0)
    return Vocabulary(
        data=np.frombuffer(spelling.buffers()[2] or b"", dtype=np.uint8),
        offsets=np.frombuffer(spelling.buffers()[1], dtype=np.int32, count=len(spelling) + 1).astype(np.int64),
        kind=table["kind"].to_numpy(),
        texts=tuple(table["text"].to_pylist()),
        roles=artifact.manifest.inputs["roles"],
        dummy_prefix=artifact.manifest.inputs["dummy_prefix"],
    )


def _table(vocabulary: Vocabulary) -> pa.Table:
    ids = np.arange(vocabulary.size, dtype=np.int32)
    rows = Ragged(vocabulary.data, vocabulary.offsets)
    spelling = pa.array([row.tobytes() for row in rows], pa.binary())
    return pa.table([ids, spelling, vocabulary.kind, list(vocabulary.texts)], schema=VOCABULARY)
