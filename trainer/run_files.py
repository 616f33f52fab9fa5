"""What lies where in a run folder."""

from pathlib import Path

IDENTITY_NAME = "run.json"  # which job the folder belongs to
METRICS_NAME = "metrics.jsonl"
RESULT_NAME = "result.json"  # written last: the run is finished
CHECKPOINTS_FOLDER = "checkpoints"
BEST_NAME = "best"  # a link to the best checkpoint
TENSORBOARD_FOLDER = "tensorboard"
FAILURE_NAME = "error.json"  # what ended the workers
STOP_NAME = "stop"  # while this file is there, the run stops after its current step
WRITER_LOCK = "writer"  # held by the worker that writes here
RAY_FOLDER = ".ray"  # Ray's own notes; here because every node sees this folder


def checkpoint_folder(run_folder: Path, step: int) -> Path:
    """Where the checkpoint after `step` steps is, or would be."""
    return run_folder / CHECKPOINTS_FOLDER / f"step-{step:06d}"


def checkpoint_steps(run_folder: Path) -> list[int]:
    """The steps that have a checkpoint, newest first."""
    folders = (run_folder / CHECKPOINTS_FOLDER).glob("step-*")
    return sorted((int(folder.name.removeprefix("step-")) for folder in folders), reverse=True)
