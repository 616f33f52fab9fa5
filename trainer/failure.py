"""How a worker tells the driver of an error that trying again does not cure: one file in the run folder.

An exception that leaves a worker makes Ray start the worker group again, up to `max_failures` times; that is right for
lost machines and wrong for damaged files.
"""

import json
from pathlib import Path

from storage.errors import ArtifactError, StorageError
from storage.files import write_atomic
from trainer.errors import PeerFailedError, TrainerError
from trainer.run_files import FAILURE_NAME


def report_failure(run_folder: Path, error: Exception) -> None:
    """Leave the error for the driver; a worker that only stopped because of another one leaves nothing."""
    if not isinstance(error, PeerFailedError):
        content = {"type": type(error).__name__, "message": str(error)}
        write_atomic(run_folder / FAILURE_NAME, json.dumps(content).encode())


def raise_failure(run_folder: Path) -> None:
    """Raise what a worker reported, if one did."""
    path = run_folder / FAILURE_NAME
    if not path.is_file():
        return
    content = json.loads(path.read_bytes())
    known: list[type[Exception]] = [ArtifactError, StorageError, *TrainerError.__subclasses__()]
    kinds = {kind.__name__: kind for kind in known}
    raise kinds.get(content["type"], TrainerError)(content["message"])
