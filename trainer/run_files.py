"""What lies where in a run folder."""

import re
from pathlib import Path

IDENTITY_NAME = "run.json"  # which job the folder belongs to
METRICS_NAME = "metrics.jsonl"
RESULT_NAME = "result.json"  # written last: the run is finished
CHECKPOINTS_FOLDER = "checkpoints"
BEST_NAME = "best"  # a link to the best checkpoint
TENSORBOARD_FOLDER = "tensorboard"
MLFLOW_RUN_NAME = "mlflow_run"  # the id that MLflow gave the run
FAILURE_NAME = "error.json"  # what ended the workers
STOP_NAME = "stop"  # while this file is there, the run stops after its current step
WRITER_LOCK = "writer"  # held by the worker that writes here
RAY_FOLDER = ".ray"  # Ray's own notes; here because every node sees this folder


def checkpoint_folder(run_folder: Path, step: int) -> Path:
    """Where the checkpoint after `step` steps is, or would be."""
    return run_folder / CHECKPOINTS_FOLDER / f"step-{step:06d}"


def checkpoint_steps(run_folder: Path) -> list[int]:
    """The steps that have a checkpoint, newest first; folders with other names, such as a copy, are none."""
    names = (folder.name for folder in (run_folder / CHECKPOINTS_FOLDER).glob("step-*"))
    found = (re.fullmatch(r"step-(\d{6,})", name) for name in names)
    return sorted((int(match[1]) for match in found if match), reverse=True)
