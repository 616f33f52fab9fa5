"""Run folders and the trainings in them."""

from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from flows.inspect.models import REMEDY, checkpoint_problems, read_json, read_state
from flows.inspect.shown import Damage, Shown
from flows.inspect.values import facts, grid, short
from trainer.run import read_metrics

RUNS = "runs"
_CONFIG = "config.yaml"
_SECONDS = "seconds.json"
_SUMMARY = "summary.json"
_METRICS = "metrics.jsonl"
_CHECKPOINTS = "checkpoints"
_LAST_STEPS = 8


def is_training(folder: Path) -> bool:
    """Whether the folder holds one training."""
    return (folder / _METRICS).is_file() or (folder / _CHECKPOINTS).is_dir()


def is_run(folder: Path) -> bool:
    """Whether the folder holds a run, also one that ended before its first training: then its times, or its config."""
    started = (folder / _CONFIG).is_file() and folder.absolute().parent.name == RUNS
    return started or any((folder / name).is_file() for name in (_SUMMARY, _SECONDS)) or bool(_trainings(folder))


def show_run(folder: Path) -> Shown:
    """The summary, how far each training came and which checkpoints are damaged."""
    summary, trainings = read_json(folder / _SUMMARY), _trainings(folder)
    files = [name for name in ("report.html", _SUMMARY, _CONFIG) if (folder / name).is_file()]
    state = Text("finished", "green") if summary else Text("not finished: the same command goes on from here", "yellow")
    head = facts(f"run {folder}", {"state": state, "files": ", ".join(files)})
    problems = [problem for training in trainings for found in _checkpoints(training).values() for problem in found]
    known = summary or {"seconds": read_json(folder / _SECONDS)}
    return Shown((head, *_trainings_table(trainings), *_summary_tables(known)), _damage(problems))


def show_training(folder: Path) -> Shown:
    """The latest steps and the checkpoints of one training."""
    records = [record.model_dump(exclude_none=True) for record in read_metrics(folder)][-_LAST_STEPS:]
    columns = list(dict.fromkeys(name for record in records for name in record))
    steps = grid("latest steps", columns, [[short(record.get(name)) for name in columns] for record in records])
    found = _checkpoints(folder)
    checkpoints = grid(
        "checkpoints",
        ("checkpoint", "step", "held-out bits per byte", "state"),
        [_checkpoint_row(checkpoint, problems) for checkpoint, problems in found.items()],
    )
    return Shown((facts(f"training {folder}", {}), steps, checkpoints), _damage(chain(*found.values())))


def _trainings(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir() and is_training(child))


def _trainings_table(trainings: list[Path]) -> list[Table]:
    columns = ("training", "steps done", "best bits per byte", "at step", "checkpoints")
    return [grid("trainings", columns, map(_training_row, trainings))] if trainings else []


def _checkpoints(folder: Path) -> dict[Path, list[str]]:
    """The checkpoints of a training, oldest first, each with what is wrong with it."""
    return {checkpoint: _problems(checkpoint) for checkpoint in _checkpoint_folders(folder)}


def _checkpoint_folders(folder: Path) -> list[Path]:
    return sorted((folder / _CHECKPOINTS).glob("step-*"))


def _problems(checkpoint: Path) -> list[str]:
    """Unlike a model from elsewhere, a training's checkpoint must have a state, with checksums of its other files."""
    if not read_state(checkpoint):
        return [f"{checkpoint} has no readable state"]
    return checkpoint_problems(checkpoint)


def _damage(problems: Iterable[str]) -> tuple[Damage, ...]:
    """The problems with their remedy; nothing where there are none."""
    found = tuple(problems)
    return (Damage(found, REMEDY),) if found else ()


def _training_row(folder: Path) -> tuple[object, ...]:
    records = read_metrics(folder)
    scores = [(r.heldout_bits_per_byte, r.step) for r in records if r.heldout_bits_per_byte is not None]
    bits, step = min(scores, default=("", ""))
    return folder.name, records[-1].step if records else 0, bits, step, len(_checkpoint_folders(folder))


def _checkpoint_row(folder: Path, problems: list[str]) -> tuple[object, ...]:
    state = read_state(folder)
    bits = state.get("bits_per_byte")
    whole = Text("damaged", "bold red") if problems else Text("whole", "green")
    return folder.name, state.get("step", ""), "" if bits is None else bits, whole


def _summary_tables(summary: dict[str, Any]) -> list[Group]:
    """The scalars in one table, and one for each group of scalars."""
    groups: dict[str, dict[str, object]] = {"summary": {}}
    for name, value in summary.items():
        if not isinstance(value, dict):
            groups["summary"][name] = "" if value is None else value
        elif not any(isinstance(item, dict) for item in value.values()):
            groups[name.replace("_", " ")] = value
    return [facts(title, values) for title, values in groups.items() if values]
