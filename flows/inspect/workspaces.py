"""A whole workspace, or a part of one: a line for every artifact and run."""

from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from flows.inspect.artifacts import damages, is_unfinished, remedy
from flows.inspect.runs import RUNS, is_run, show_run
from flows.inspect.shown import Damage, Shown
from flows.inspect.values import grid, size
from storage.artifact import read_manifest
from storage.errors import ArtifactError
from storage.manifest import MANIFEST_NAME, Manifest

# alignments/FINGERPRINT/TEACHER/manifest.json is the deepest.
_DEPTHS = ("*", "*/*", "*/*/*")


def is_workspace(folder: Path) -> bool:
    """Whether artifacts or runs are below the folder."""
    return bool(_manifests(folder) or _unfinished(folder) or _runs(folder))


def show_workspace(folder: Path) -> Shown:
    """Every artifact with its kind, size and state, those that are unfinished, then the runs."""
    entries = [_entry(path.parent) for path in _manifests(folder)]
    artifacts = grid(
        f"artifacts in {folder}",
        ("artifact", "kind", "rows", "size", "created", "state"),
        [(entry.folder.relative_to(folder), *_cells(entry)) for entry in entries]
        + [(path.relative_to(folder), "", "", "", "", Text("unfinished", "yellow")) for path in _unfinished(folder)],
    )
    damaged = [Damage(tuple(entry.problems), remedy(entry.kind)) for entry in entries if entry.problems]
    runs = [show_run(run) for run in _runs(folder)]
    damaged += [damage for run in runs for damage in run.damage]
    return Shown((artifacts, *(part for run in runs for part in ("", *run.parts))), tuple(damaged))


@dataclass(frozen=True)
class _Entry:
    folder: Path
    manifest: Manifest | None
    problems: list[str]

    @property
    def kind(self) -> str | None:
        return self.manifest.kind if self.manifest else None


def _manifests(folder: Path) -> list[Path]:
    return sorted(path for depth in _DEPTHS for path in folder.glob(f"{depth}/{MANIFEST_NAME}"))


def _unfinished(folder: Path) -> list[Path]:
    """What an interrupted command left, or one that is running makes."""
    return sorted(
        path
        for depth in _DEPTHS
        for path in folder.glob(depth)
        if is_unfinished(path) and not (path / MANIFEST_NAME).is_file()
    )


def _runs(folder: Path) -> list[Path]:
    runs = folder if folder.name == RUNS else folder / RUNS
    return sorted(run for run in runs.glob("*") if run.is_dir() and is_run(run))


def _entry(folder: Path) -> _Entry:
    try:
        manifest = read_manifest(folder)
    except ArtifactError as error:
        return _Entry(folder, None, [str(error)])
    return _Entry(folder, manifest, damages(folder, manifest))


def _cells(entry: _Entry) -> tuple[object, ...]:
    state = Text("damaged", "bold red") if entry.problems else Text("whole", "green")
    if entry.manifest is None:
        return "?", "", "", "", state
    files = entry.manifest.files
    rows, total = sum(file.rows for file in files), sum(file.bytes for file in files)
    return entry.manifest.kind, rows, size(total), entry.manifest.created, state
