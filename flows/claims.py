"""Whether the folders of a run are free for a config.

The trainer refuses a folder that holds another run, but only when it starts. Here the same is asked before: of what the
config says, before any work, and of the artifacts, before the first forward of a teacher.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.config import ConfigError, RunConfig, TeacherConfig
from flows.trainings import CE, run_folder, source_weights, training_settings
from trainer.job import Architecture

# Where the trainer keeps what determines a training's numbers.
IDENTITY = "run.json"


def is_claimed(config: RunConfig) -> bool:
    """Whether a training's folder holds one already."""
    return any((run_folder(config) / name / IDENTITY).exists() for name in training_settings(config))


def require_free(config: RunConfig) -> None:
    """ConfigError if a training's folder holds another one than the config describes; nothing is written."""
    for name, settings in training_settings(config).items():
        teachers = () if name == CE else config.teachers
        _require_same(config, name, _described(config, teachers) | {"settings": settings.model_dump(mode="json")})


def require_same_artifacts(config: RunConfig, artifacts: Mapping[str, Any]) -> None:
    """ConfigError if a training's folder holds one of other artifacts; nothing is written.

    `artifacts` are fingerprints, named as the trainer names them: {"windows": ..., "teachers": {"0": {"cache": ...}}}.
    """
    for name in training_settings(config):
        _require_same(config, name, artifacts)


def _described(config: RunConfig, teachers: tuple[TeacherConfig, ...]) -> dict[str, Any]:
    student = config.student
    new = (student.architecture or Architecture()).model_dump() if student.model is None else None
    return {
        "student": {"max_length": student.max_length, "architecture": new},
        "teachers": {
            str(i): {"name": teacher.name, "weight": teacher.weight, "loss": teacher.loss, "options": teacher.options}
            for i, teacher in enumerate(teachers)
        },
        "teacher names": [teacher.name for teacher in teachers],
        "source_weights": {source.name: source.weight for source in source_weights(config) if source.weight != 1},
    }


def _require_same(config: RunConfig, name: str, known: Mapping[str, Any]) -> None:
    folder = run_folder(config) / name
    changes = _changes(_identity(folder), known)
    if changes:
        raise ConfigError(
            f"{folder} holds another run, which is left as it is ({'; '.join(changes)}): give this run another `name`, "
            "or remove the folder to start it over"
        )


def _identity(folder: Path) -> dict[str, Any]:
    """What the folder's training is, empty where there is none."""
    try:
        identity = json.loads((folder / IDENTITY).read_bytes())["identity"]
        return identity | {"teacher names": [teacher["name"] for teacher in identity["teachers"].values()]}
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):  # the trainer takes it for free, too
        return {}


def _changes(there: Any, now: Any, name: str = "") -> list[str]:
    """The values that both know and that differ: "settings.steps: 100 there, 200 now"."""
    if isinstance(there, dict) and isinstance(now, Mapping):
        shared = sorted(there.keys() & now.keys())
        return [change for key in shared for change in _changes(there[key], now[key], f"{name}.{key}" if name else key)]
    return [] if there == now else [f"{name}: {there} there, {now} now"]
