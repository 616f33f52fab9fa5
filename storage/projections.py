"""Projections on disk: safetensors to compute with, an Arrow table to look at."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from storage.artifact import open_artifact
from storage.errors import ArtifactError
from storage.schemas import PROJECTION
from xtoken_core.projection import Projection, Rule
from xtoken_core.vocabulary import Vocabulary

KIND = "projection"
TENSORS = "projection.safetensors"
TABLE = "projection.arrow"
_VOCABULARIES = "vocabularies"


def projection_bytes(projection: Projection, student: Vocabulary, teacher: Vocabulary) -> bytes:
    """The safetensors form: `indices` int32 [Vs, k] (-1 empty), `weights` float32 [Vs, k] and `rules` int8 [Vs, k].

    Its metadata say under "vocabularies", as JSON, the fingerprints of the "student" and the "teacher".
    """
    tensors = {"indices": projection.indices, "weights": projection.weights, "rules": projection.rules}
    # safetensors writes an array's memory as it lies, whatever its strides: a slice would come back as other numbers.
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    # One key only: safetensors writes several in any order, and the same projection would be another file.
    return save(
        contiguous, {_VOCABULARIES: json.dumps({"student": student.fingerprint, "teacher": teacher.fingerprint})}
    )


def projection_table(projection: Projection, student: Vocabulary, teacher: Vocabulary) -> pa.Table:
    """One row per entry, best first within a student token."""
    rows, columns = np.nonzero(projection.indices >= 0)
    teacher_ids = projection.indices[rows, columns]
    names = {rule.value: rule.name.lower() for rule in Rule}
    entries = [
        pa.array(rows, pa.int32()),
        _texts(student).take(pa.array(rows)),
        teacher_ids,
        _texts(teacher).take(pa.array(teacher_ids)),
        projection.weights[rows, columns],
        [names[rule] for rule in projection.rules[rows, columns].tolist()],
    ]
    return pa.table(entries, schema=PROJECTION)


def _texts(vocabulary: Vocabulary) -> pa.Array:
    return pa.array(vocabulary.texts, pa.string())


def load_projection(folder: Path, student: Vocabulary, teacher: Vocabulary) -> Projection:
    """Read the projection from `student` to `teacher`.

    Raises:
        ArtifactError: if it is missing or damaged, or was made for other vocabularies.
    """
    path = open_artifact(folder, KIND).path(TENSORS)
    projection, made_for = _read(path)
    for side, vocabulary in (("student", student), ("teacher", teacher)):
        _require_same(path, side, made_for.get(side), vocabulary.fingerprint)
    return projection


def read_projection(folder: Path) -> Projection:
    """Read a projection for whoever has its tokenizers elsewhere.

    Raises:
        ArtifactError: if it is missing or damaged.
    """
    return _read(open_artifact(folder, KIND).path(TENSORS))[0]


def _read(path: Path) -> tuple[Projection, dict[str, str]]:
    """The projection, and the fingerprints of the vocabularies it was made for, by side."""
    try:
        with safe_open(path, framework="numpy") as file:
            made_for = json.loads((file.metadata() or {}).get(_VOCABULARIES, "{}"))
            tensors = {name: file.get_tensor(name) for name in ("indices", "weights", "rules")}
    except SafetensorError as error:
        raise ArtifactError(f"cannot read {path} ({error}): run `xtoken build-projection` again") from error
    return Projection(**tensors), made_for


def _require_same(path: Path, side: str, made_for: str | None, in_use: str) -> None:
    if made_for != in_use:
        raise ArtifactError(
            f"{path} was made for the {side} vocabulary {made_for}, but the {side} tokenizer in use has the vocabulary "
            f"{in_use}: run `xtoken build-projection` with the tokenizers in use"
        )
