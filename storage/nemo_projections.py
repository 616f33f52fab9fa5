"""Projections in the `.pt` form of NeMo-RL (tools/x_token), in and out.

Two forms are read. Dense: a dict with `indices` [rows, k] and `likelihoods` [rows, k], the names of both models under
`student_model_id` and `teacher_model_id` (in older files `model_A_id` and `model_B_id`) and `enable_scale_trick`, which
says that the last column is a scale slot. Sparse: a dict from (student id, teacher id) to a weight. What is written is
dense.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from storage.errors import ArtifactError
from storage.files import atomic_path
from storage.torch_files import as_array, read_torch
from xtoken_core.projection import Projection, ProjectionSettings, Rule
from xtoken_core.projection.entries import Entries
from xtoken_core.projection.finish import finished
from xtoken_core.vocabulary import TokenKind, Vocabulary

_NAMES = {"student": ("student_model_id", "model_A_id"), "teacher": ("teacher_model_id", "model_B_id")}
_FEWEST_COLUMNS = 2  # the published loss takes a row for exact only where a second column is -1


@dataclass(frozen=True, eq=False)
class NemoProjection:
    """What a file holds: W, its last column empty where it has a scale slot, and the names of both models."""

    projection: Projection
    student_name: str | None = None
    teacher_name: str | None = None


def read_nemo(path: Path, student: Vocabulary, teacher: Vocabulary) -> NemoProjection:
    """The projection in `path`, its rows sorted and normalised.

    A scale slot is emptied: its number is no token's. Entries of tokens with equal bytes are tagged EXACT where they
    are alone in their row, all others IMPORTED. Rows behind the last id of the student's (the padding of a model's
    head) are left out where they are empty.

    Raises:
        ArtifactError: if the file is not one of the two forms, would run code, holds nothing, or ids or rows that the
            vocabularies do not have.
    """
    data = _read(path)
    is_dense = "indices" in data and "likelihoods" in data
    slot = is_dense and _flag(path, data, "enable_scale_trick")
    if is_dense:
        entries, width = _dense_entries(path, data, slot)
        _require_rows(path, len(data["indices"]), student)
    else:
        entries, width = _sparse_entries(path, data)
    _require_ids(path, entries, student.size, teacher.size)
    _require_columns(path, width, teacher.size)
    settings = ProjectionSettings(top_k=width + slot, scale_slot=slot)
    projection = finished(_tagged(entries.merged(), student, teacher), student.size, settings)
    return NemoProjection(projection, _name(data, "student"), _name(data, "teacher"))


def write_nemo(path: Path, content: NemoProjection) -> None:
    """Write the dense form: int64 indices, float32 likelihoods, at least two columns."""
    import torch

    projection = content.projection
    missing = max(_FEWEST_COLUMNS - projection.indices.shape[1], 0)
    indices = np.pad(projection.indices.astype(np.int64), ((0, 0), (0, missing)), constant_values=-1)
    data = {
        "indices": torch.from_numpy(indices),
        "likelihoods": torch.from_numpy(np.pad(projection.weights, ((0, 0), (0, missing)))),
        "student_model_id": content.student_name,
        "teacher_model_id": content.teacher_name,
        "enable_scale_trick": projection.has_scale_slot,
    }
    with atomic_path(path) as temporary:
        torch.save(data, temporary)


def _read(path: Path) -> dict[Any, Any]:
    data = read_torch(path)
    if not isinstance(data, dict) or not data:
        raise _unknown_form(path, f"a {type(data).__name__}")
    return data


def _flag(path: Path, data: dict[Any, Any], name: str) -> bool:
    try:
        return bool(data.get(name, False))
    except (RuntimeError, ValueError):
        raise ArtifactError(f"{path} has several values for {name}: save it as one, True or False") from None


def _dense_entries(path: Path, data: dict[Any, Any], slot: bool) -> tuple[Entries, int]:
    """The entries, and the number of columns for them."""
    indices, weights = (as_array(path, name, data[name]) for name in ("indices", "likelihoods"))
    if indices.ndim != 2 or indices.shape != weights.shape or indices.shape[1] <= slot:
        raise ArtifactError(
            f"{path} has indices of shape {list(indices.shape)} and likelihoods of shape {list(weights.shape)}: both "
            f"must be [rows, k], k at least {1 + slot}"
        )
    indices = _ids(path, indices)
    if slot:
        indices, weights = indices[:, :-1], weights[:, :-1]
    return _positive(path, np.arange(len(indices)).repeat(indices.shape[1]), indices, weights), indices.shape[1]


def _sparse_entries(path: Path, data: dict[Any, Any]) -> tuple[Entries, int]:
    """The entries, and how many the longest row has."""
    try:
        pairs = np.array([*data.keys()])
        weights = np.array([float(weight) for weight in data.values()])
    except (TypeError, ValueError, RuntimeError):
        raise _unknown_form(path, f"a dict with keys like {str(next(iter(data)))[:40]!r}") from None
    if pairs.shape != (len(data), 2) or pairs.dtype.kind == "U":
        raise _unknown_form(path, f"a dict with keys like {str(next(iter(data)))[:40]!r}, which are no pairs of ids")
    pairs = _ids(path, pairs)
    entries = _positive(path, pairs[:, 0], pairs[:, 1], weights)
    return entries, int(np.unique(entries.student, return_counts=True)[1].max(initial=1))


def _ids(path: Path, numbers: np.ndarray) -> np.ndarray:
    """As int64; 0.5 and 2**70 would be ids of other tokens there."""
    try:
        with np.errstate(invalid="ignore"):
            ids = numbers.astype(np.int64)
    except (OverflowError, TypeError, ValueError):  # Python's own numbers, or no numbers
        ids = None
    if ids is None or not np.array_equal(ids, numbers):
        raise ArtifactError(f"{path} has ids that are no whole numbers of 64 bits: save token ids as int64")
    return ids


def _positive(path: Path, student: np.ndarray, teacher: np.ndarray, weights: np.ndarray) -> Entries:
    """The entries that say something: zeros and -1 fill rows up."""
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ArtifactError(f"{path} has weights that are negative or no numbers: make it again")
    entries = Entries.of(student, teacher.ravel(), weights.ravel(), Rule.IMPORTED)
    entries = entries.where((entries.teacher != -1) & (entries.weight > 0))
    if len(entries.weight) == 0:
        raise ArtifactError(f"{path} has no weight above zero, the projection would be empty: make it again")
    return entries


def _require_rows(path: Path, found: int, student: Vocabulary) -> None:
    """Marks behind the last row of a model's head (Gemma-3's last id) are no reason to refuse a file, text is."""
    needed = int(np.flatnonzero(student.lengths).max(initial=-1)) + 1
    if found < needed:
        raise ArtifactError(
            f"{path} has {found:,} rows, but the student's tokens go up to id {needed - 1:,}: give the file of these "
            "two tokenizers"
        )


def _require_ids(path: Path, entries: Entries, n_student: int, n_teacher: int) -> None:
    for side, ids, size in (("student", entries.student, n_student), ("teacher", entries.teacher, n_teacher)):
        lowest, largest = int(ids.min(initial=0)), int(ids.max(initial=0))
        if lowest < 0 or largest >= size:
            raise ArtifactError(
                f"{path} has entries for {side} ids {lowest:,} to {largest:,}, but the {side}'s vocabulary has 0 to "
                f"{size - 1:,}: give the file of these two tokenizers"
            )


def _require_columns(path: Path, found: int, n_teacher: int) -> None:
    if found > n_teacher:
        raise ArtifactError(
            f"{path} has rows of {found:,} entries, but the teacher's vocabulary has {n_teacher:,} ids: give the file "
            "of these two tokenizers"
        )


def _tagged(entries: Entries, student: Vocabulary, teacher: Vocabulary) -> Entries:
    """EXACT where both tokens have the same bytes and are alone in their row."""
    alone = np.bincount(entries.student, minlength=student.size)[entries.student] == 1
    is_text = student.kind[entries.student] == TokenKind.TEXT
    same = np.zeros(len(alone), dtype=bool)
    for place in np.flatnonzero(alone & is_text).tolist():
        pair = int(entries.student[place]), int(entries.teacher[place])
        same[place] = student.token_bytes(pair[0]) == teacher.token_bytes(pair[1])
    return Entries(entries.student, entries.teacher, entries.weight, np.where(same, Rule.EXACT, entries.rule))


def _name(data: dict[Any, Any], side: str) -> str | None:
    return next((str(data[key]) for key in _NAMES[side] if data.get(key) is not None), None)


def _unknown_form(path: Path, found: str) -> ArtifactError:
    return ArtifactError(
        f"{path} holds {found}: expected a dict with tensors `indices` and `likelihoods`, or one from pairs (student "
        "id, teacher id) to weights"
    )
