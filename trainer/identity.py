"""Which run a folder holds: everything that determines its numbers, in `run.json`."""

import json
import secrets
from pathlib import Path
from typing import Any

from storage.artifact import read_manifest
from storage.digests import folder_digest
from storage.files import write_atomic
from storage.hashing import fingerprint
from trainer.errors import RunConflictError
from trainer.job import TeacherInputs, TrainingSettings, TrainJob
from trainer.run_files import IDENTITY_NAME

# Raised by a change to the trainer that changes the numbers of a run.
ALGORITHM_VERSION = 2
# Settings that say how a run is computed, kept and shown; every other one has a part in its numbers.
FREE_SETTINGS = frozenset(
    {"micro_batch_windows", "checkpoint_every", "keep_checkpoints", "threads_per_worker", "max_failures", "loggers"}
)
MODEL_FILES = ("*.json", "*.safetensors", "*.bin")
TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "vocab.*",
    "merges.txt",
    "*.tiktoken",
    "tiktoken.model",
    "tekken.json",
)


def identity(job: TrainJob) -> dict[str, Any]:
    """What determines the numbers of `job`: artifacts and models by content, not by path.

    Raises:
        ArtifactError: if an artifact is not finished.
    """
    student = job.student
    return {
        "algorithm_version": ALGORITHM_VERSION,
        "windows": read_manifest(job.windows).fingerprint,
        "student_tokens": read_manifest(job.student_tokens).fingerprint,
        "student": {
            "model": None if student.model is None else folder_digest(student.model, MODEL_FILES),
            "architecture": student.architecture.model_dump() if student.model is None else None,
            "tokenizer": folder_digest(student.tokenizer, TOKENIZER_FILES),
            "vocabulary": read_manifest(student.vocabulary).fingerprint,
            "max_length": student.max_length,
        },
        "teachers": {str(i): _teacher(teacher) for i, teacher in enumerate(job.teachers)},
        "source_weights": {source.name: source.weight for source in job.source_weights if source.weight != 1},
        "settings": _binding(job.settings.model_dump(mode="json")),
    }


def _binding(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in FREE_SETTINGS}


def _teacher(teacher: TeacherInputs) -> dict[str, Any]:
    return {
        "name": teacher.name,
        "weight": teacher.weight,
        "loss": teacher.loss,
        "options": teacher.options,
        "alignments": read_manifest(teacher.alignments).fingerprint,
        "cache": read_manifest(teacher.cache).fingerprint,
        "vocabulary": read_manifest(teacher.vocabulary).fingerprint,
        "projection": None if teacher.projection is None else read_manifest(teacher.projection).fingerprint,
    }


def claim(job: TrainJob) -> str:
    """Make `job.run_folder` the folder of this job, and return the job's fingerprint.

    A folder claimed for the first time also gets a random id, so that a logger that many machines send their runs to
    can tell this one from all others (see `training_id`).

    Raises:
        RunConflictError: if it holds another one.
    """
    wanted = identity(job)
    path = job.run_folder / IDENTITY_NAME
    try:
        found = json.loads(path.read_bytes())["identity"]
        # A setting that is younger than the run is at its default there, which is what was done before.
        found["settings"] = _binding(TrainingSettings().model_dump(mode="json") | found["settings"])
        found["teachers"] = {key: {"options": {}} | teacher for key, teacher in found["teachers"].items()}
    except (FileNotFoundError, ValueError, KeyError, AttributeError):
        found = None
    if found is None:
        content = {"fingerprint": fingerprint(wanted), "training_id": secrets.token_hex(8), "identity": wanted}
        write_atomic(path, json.dumps(content, indent=1).encode())
    elif found != wanted:
        raise RunConflictError(
            f"{job.run_folder} holds another run, which is left as it is ({describe_changes(found, wanted)}): give "
            "this run another name, or remove the folder to start it over"
        )
    return fingerprint(wanted)


def training_id(run_folder: Path) -> str:
    """The id that the training in `run_folder` got when the folder was claimed; no two trainings have the same."""
    return json.loads((run_folder / IDENTITY_NAME).read_bytes())["training_id"]


def describe_changes(old: dict[str, Any], new: dict[str, Any]) -> str:
    """The values that differ, by dotted name: "settings.steps: 100 there, 200 now"."""
    before, after = dict(_flat(old)), dict(_flat(new))
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return "; ".join(f"{name}: {before.get(name)} there, {after.get(name)} now" for name in names)


def _flat(value: Any, name: str = "") -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        return [(name, value)]
    return [pair for key, part in value.items() for pair in _flat(part, f"{name}.{key}" if name else key)]


def tokenizer_files(folder: Path) -> list[Path]:
    """The files of a tokenizer in `folder`, which may hold a model too."""
    return sorted({path for pattern in TOKENIZER_FILES for path in folder.glob(pattern) if path.is_file()})
