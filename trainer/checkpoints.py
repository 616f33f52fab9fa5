"""Checkpoints: folders that transformers opens and from which a run goes on as if nothing had happened.

A checkpoint is written beside its final name and renamed when every byte is on the disk, so a folder under a final name
is complete; `trainer_state.json` holds every file's checksum, so damage that comes later is noticed too. Neither
schedule, data order nor random numbers need storing: all are functions of the step.
"""

import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from transformers import PreTrainedModel

from storage.digests import file_digest, remember
from storage.errors import StorageError
from storage.files import write_atomic
from storage.hashing import file_checksum
from trainer.identity import tokenizer_files

logger = logging.getLogger(__name__)

CHECKPOINTS_FOLDER = "checkpoints"
BEST_NAME = "best"  # a link to the best checkpoint
STATE_NAME = "trainer_state.json"
OPTIMIZER_NAME = "optimizer.pt"


class Best(BaseModel):
    """The best evaluation of a run so far."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    bits_per_byte: float


class TrainerState(BaseModel):
    """Where a run stands after `step` steps; `seconds` of training over all attempts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    seconds: float
    best: Best | None = None
    bits_per_byte: float | None = None  # of the latest evaluation
    checksums: dict[str, str] = {}  # of every other file of the checkpoint


def checkpoint_folder(run_folder: Path, step: int) -> Path:
    """Where the checkpoint after `step` steps is, or would be."""
    return run_folder / CHECKPOINTS_FOLDER / f"step-{step:06d}"


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run."""

    run_folder: Path
    tokenizer: Path  # its files go into every checkpoint

    def save(self, model: PreTrainedModel, optimizer: dict[str, Any], state: TrainerState) -> None:
        """Write the checkpoint of `state.step`.

        Raises:
            StorageError: if it cannot be written; older checkpoints stay.
        """
        final = checkpoint_folder(self.run_folder, state.step)
        temporary = final.with_name(f".{final.name}.tmp")
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            checksums = self._write(temporary, model, optimizer, state)
            shutil.rmtree(final, ignore_errors=True)
            temporary.rename(final)
            _sync(final.parent)
            if state.best is not None:
                self._point_to_best(state.best)
        except (OSError, RuntimeError, SafetensorError) as error:
            shutil.rmtree(temporary, ignore_errors=True)
            free = shutil.disk_usage(self.run_folder).free
            raise StorageError(
                f"cannot write the checkpoint {final} ({free:,} bytes free on that disk): {error}; make room and run "
                "the same command again, it goes on from the checkpoint before"
            ) from error
        for name, checksum in checksums.items():
            remember(final / name, checksum)

    def prune(self, keep: int, state: TrainerState) -> None:
        """Remove all but the newest `keep` checkpoints and the best one."""
        best = state.best.step if state.best else None
        for step in _steps(self.run_folder)[keep:]:
            if step != best:
                shutil.rmtree(checkpoint_folder(self.run_folder, step))

    def newest(self) -> TrainerState | None:
        """The state of the newest checkpoint that a run can go on from, or None.

        It must be undamaged, and so must the best checkpoint that it refers to: else the steps since an older one are
        trained again, and the best one is made again with them.
        """
        for step in _steps(self.run_folder):
            state = self._usable(step)
            if state is not None and (state.best is None or self._usable(state.best.step) is not None):
                return state
        return None

    def _point_to_best(self, best: Best) -> None:
        """Make `best` in the run folder a link to the best checkpoint; a relative one, so that the run can be moved."""
        temporary = self.run_folder / f".{BEST_NAME}.tmp"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(checkpoint_folder(Path(), best.step))
        temporary.replace(self.run_folder / BEST_NAME)

    def _usable(self, step: int) -> TrainerState | None:
        folder = checkpoint_folder(self.run_folder, step)
        state = read_state(folder)
        problem = "it has no readable state" if state is None else damage(folder, state)
        if problem is None:
            return state
        logger.warning("not using the checkpoint %s: %s", folder, problem)
        return None

    def _write(
        self, folder: Path, model: PreTrainedModel, optimizer: dict[str, Any], state: TrainerState
    ) -> dict[str, str]:
        model.save_pretrained(folder)
        for path in tokenizer_files(self.tokenizer):
            shutil.copyfile(path, folder / path.name)
        torch.save(optimizer, folder / OPTIMIZER_NAME)
        checksums = {path.name: file_checksum(path) for path in _files(folder)}
        for name in checksums:
            _sync(folder / name)
        text = state.model_copy(update={"checksums": checksums}).model_dump_json(indent=1)
        write_atomic(folder / STATE_NAME, text.encode())
        return checksums


def load_optimizer(folder: Path, device: torch.device) -> dict[str, Any]:
    """The optimizer's state in the checkpoint `folder`."""
    return torch.load(folder / OPTIMIZER_NAME, map_location=device, weights_only=True)


def read_state(folder: Path) -> TrainerState | None:
    """The state in the checkpoint `folder`; None if there is none that can be read."""
    try:
        return TrainerState.model_validate_json((folder / STATE_NAME).read_bytes())
    except (OSError, ValidationError):
        return None


def damage(folder: Path, state: TrainerState) -> str | None:
    """What is wrong with the files of a checkpoint, or None."""
    for name, checksum in state.checksums.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if file_digest(folder / name) != checksum:
            return f"{name} is not what was written"
    return None


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and path.name != STATE_NAME)


def _steps(run_folder: Path) -> list[int]:
    """The steps that have a checkpoint, newest first."""
    folders = (run_folder / CHECKPOINTS_FOLDER).glob("step-*")
    return sorted((int(folder.name.removeprefix("step-")) for folder in folders), reverse=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
