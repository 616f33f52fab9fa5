"""Run folders and the trainings in them."""

from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from flows.inspect.models import read_json, read_state
from flows.inspect.values import facts, grid, short
from trainer.run import read_metrics

_SUMMARY = "summary.json"
_METRICS = "metrics.jsonl"
_CHECKPOINTS = "checkpoints"
_LAST_STEPS = 8


def is_training(folder: Path) -> bool:
    """Whether the folder holds one training."""
    return (folder / _METRICS).is_file() or (folder / _CHECKPOINTS).is_dir()


def is_run(folder: Path) -> bool:
    """Whether the folder holds a run: a summary, or trainings below it."""
    return (folder / _SUMMARY).is_file() or bool(_trainings(folder))


def show_run(folder: Path) -> RenderableType:
    """The summary and how far each training came."""
    summary = read_json(folder / _SUMMARY)
    trainings = grid(
        "trainings",
        ("training", "steps done", "best bits per byte", "at step", "checkpoints"),
        [_training_row(training) for training in _trainings(folder)],
    )
    files = [name for name in ("report.html", _SUMMARY, "config.yaml") if (folder / name).is_file()]
    state = Text("finished", "green") if summary else Text("not finished: the same command goes on from here", "yellow")
    parts: list[RenderableType] = [facts(f"run {folder}", {"state": state, "files": ", ".join(files)}), trainings]
    return Group(*parts, *_summary_tables(summary))


def show_training(folder: Path) -> RenderableType:
    """The latest steps and the checkpoints of one training."""
    records = [record.model_dump(exclude_none=True) for record in read_metrics(folder)][-_LAST_STEPS:]
    columns = list(dict.fromkeys(name for record in records for name in record))
    rows = [[short(record.get(name)) for name in columns] for record in records]
    checkpoints = grid(
        "checkpoints",
        ("checkpoint", "step", "held-out bits per byte"),
        [_checkpoint_row(checkpoint) for checkpoint in _checkpoints(folder)],
    )
    return Group(facts(f"training {folder}", {}), grid("latest steps", columns, rows), checkpoints)


def _trainings(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir() and is_training(child))


def _checkpoints(folder: Path) -> list[Path]:
    return sorted((folder / _CHECKPOINTS).glob("step-*"))


def _training_row(folder: Path) -> tuple[object, ...]:
    records = read_metrics(folder)
    scores = [(r.heldout_bits_per_byte, r.step) for r in records if r.heldout_bits_per_byte is not None]
    bits, step = min(scores, default=("", ""))
    return folder.name, records[-1].step if records else 0, bits, step, len(_checkpoints(folder))


def _checkpoint_row(folder: Path) -> tuple[object, ...]:
    state = read_state(folder)
    if not state:
        return folder.name, Text("damaged: no readable state", "bold red"), ""
    bits = state.get("bits_per_byte")
    return folder.name, state.get("step", ""), "" if bits is None else bits


def _summary_tables(summary: dict[str, Any]) -> list[Group]:
    """The scalars in one table, and one for each group of scalars."""
    groups: dict[str, dict[str, object]] = {"summary": {}}
    for name, value in summary.items():
        if not isinstance(value, dict):
            groups["summary"][name] = "" if value is None else value
        elif not any(isinstance(item, dict) for item in value.values()):
            groups[name.replace("_", " ")] = value
    return [facts(title, values) for title, values in groups.items() if values]
