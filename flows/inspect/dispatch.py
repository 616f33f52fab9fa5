"""Recognises what a path holds."""

from collections.abc import Callable
from pathlib import Path

from flows.inspect.artifacts import is_artifact, is_unfinished, show_artifact, show_shard, show_unfinished
from flows.inspect.errors import InspectError
from flows.inspect.models import is_checkpoint, show_checkpoint
from flows.inspect.runs import is_run, is_training, show_run, show_training
from flows.inspect.shown import Shown
from flows.inspect.workspaces import is_workspace, show_workspace

# In this order: a finished artifact has shards too, and a run folder lies in a workspace.
_FOLDERS: tuple[tuple[Callable[[Path], bool], Callable[[Path], Shown]], ...] = (
    (is_artifact, show_artifact),
    (is_checkpoint, show_checkpoint),
    (is_training, show_training),
    (is_run, show_run),
    (is_unfinished, show_unfinished),
    (is_workspace, show_workspace),
)
_EXPECTED = (
    "a run (workspace/runs/NAME), a training or a checkpoint in it, an artifact folder (with manifest.json), a shard "
    "(shard-00000.arrow) or a whole workspace"
)


def inspect_path(path: Path) -> Shown:
    """What `path` holds; damage is part of the answer.

    Raises:
        InspectError: if nothing is there, or nothing of ours.
    """
    if not path.exists():
        raise InspectError(f"{path} does not exist: give {_EXPECTED}")
    if path.is_file():
        if path.suffix == ".arrow":
            return show_shard(path)
        raise InspectError(f"{path} is a file that is no .arrow shard: give {_EXPECTED}")
    for recognises, show in _FOLDERS:
        if recognises(path):
            return show(path)
    raise InspectError(f"{path} holds {_contents(path)}: give {_EXPECTED}")


def _contents(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return shown or "nothing"
