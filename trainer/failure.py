"""How a worker tells the driver of an error that trying again does not cure: one file in the run folder.

An exception that leaves a worker makes Ray start the worker group again, up to `max_failures` times; that is right for
lost machines and wrong for damaged files. Where an exception must leave it, so that Ray ends the workers that wait for
this one, the workers that Ray starts then see the file and end at once.
"""

import json
from pathlib import Path

from storage.errors import ArtifactError, StorageError
from storage.files import write_atomic
from trainer.errors import PeerFailedError, TrainerError
from trainer.run_files import FAILURE_NAME
from xtoken_core.models import ModelError


def report_failure(run_folder: Path, error: Exception) -> None:
    """Leave the error for the driver; a worker that only stopped because of another one leaves nothing."""
    if not isinstance(error, PeerFailedError):
        content = {"type": type(error).__name__, "message": str(error)}
        write_atomic(run_folder / FAILURE_NAME, json.dumps(content).encode())


def has_failure(run_folder: Path) -> bool:
    """Whether a worker reported an error since the driver began."""
    return (run_folder / FAILURE_NAME).is_file()


def raise_failure(run_folder: Path) -> None:
    """Raise what a worker reported, if one did."""
    if not has_failure(run_folder):
        return
    content = json.loads((run_folder / FAILURE_NAME).read_bytes())
    known: list[type[Exception]] = [ArtifactError, ModelError, StorageError, *TrainerError.__subclasses__()]
    kinds = {kind.__name__: kind for kind in known}
    raise kinds.get(content["type"], TrainerError)(content["message"])
