"""Projections on disk: safetensors to compute with, an Arrow table to look at."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from safetensors.numpy import load_file, save

from storage.artifact import Artifact, open_artifact
from storage.schemas import PROJECTION
from xtoken_core.projection import Projection, Rule
from xtoken_core.vocabulary import Vocabulary

KIND = "projection"
TENSORS = "projection.safetensors"
TABLE = "projection.arrow"


def projection_bytes(projection: Projection) -> bytes:
    """The safetensors form: `indices` int32 [Vs, k] (-1 empty), `weights` float32 [Vs, k] and `rules` int8 [Vs, k]."""
    tensors = {"indices": projection.indices, "weights": projection.weights, "rules": projection.rules}
    # safetensors writes an array's memory as it lies, whatever its strides: a slice would come back as other numbers.
    return save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()})


def projection_table(projection: Projection, student: Vocabulary, teacher: Vocabulary) -> pa.Table:
    """One row per entry, best first within a student token."""
    rows, columns = np.nonzero(projection.indices >= 0)
    teacher_ids = projection.indices[rows, columns]
    names = {rule.value: rule.name.lower() for rule in Rule}
    entries = [
        pa.array(rows, pa.int32()),
        [student.texts[i] for i in rows],
        teacher_ids,
        [teacher.texts[i] for i in teacher_ids],
        projection.weights[rows, columns],
        [names[rule] for rule in projection.rules[rows, columns].tolist()],
    ]
    return pa.table(entries, schema=PROJECTION)


def load_projection(folder: Path) -> Projection:
    """Read a projection (ArtifactError if it is missing or damaged)."""
    artifact: Artifact = open_artifact(folder, KIND)
    tensors = load_file(artifact.path(TENSORS))
    return Projection(indices=tensors["indices"], weights=tensors["weights"], rules=tensors["rules"])
