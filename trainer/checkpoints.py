"""Checkpoints: folders that transformers opens and from which a run goes on as if nothing had happened.

A checkpoint is written beside its final name and renamed when every byte is on the disk: a folder under a final name is
complete.
"""

import shutil
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from storage.digests import remember
from storage.errors import StorageError
from storage.files import sync, write_atomic
from storage.hashing import file_checksum
from trainer.identity import tokenizer_files
from trainer.optimizer import optimizer_tensors, restore_optimizer
from trainer.projections import LearntProjections
from trainer.run_files import BEST_NAME, CHECKPOINTS_FOLDER, checkpoint_folder, checkpoint_steps
from trainer.state import STATE_NAME, Best, TrainerState

OPTIMIZER_NAME = "optimizer.safetensors"


@dataclass(frozen=True, eq=False)
class Trained:
    """What a run trains, and the optimizer of all of it."""

    model: PreTrainedModel
    projections: LearntProjections
    optimizer: torch.optim.Optimizer

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """By name: those of the model as it calls them, those of the projections behind `projections.`."""
        return dict(chain(self.model.named_parameters(), self.projections.named_parameters(prefix="projections")))


@dataclass(frozen=True)
class Checkpoints:
    """Writes the checkpoints of one run."""

    run_folder: Path
    tokenizer: Path  # its files go into every checkpoint

    def save(self, trained: Trained, state: TrainerState) -> None:
        """Write the checkpoint of `state.step`.

        Raises:
            StorageError: if it cannot be written; older checkpoints stay.
        """
        final = checkpoint_folder(self.run_folder, state.step)
        temporary = final.with_name(f".{final.name}.tmp")
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            checksums = self._write(temporary, trained, state)
            shutil.rmtree(final, ignore_errors=True)
            temporary.rename(final)
            sync(final.parent)
            if state.best is not None:
                self._point_to_best(state.best)
        except (OSError, RuntimeError, SafetensorError) as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise self._explain(final, error) from error
        for name, checksum in checksums.items():
            remember(final / name, checksum)

    def go_on_from(self, state: TrainerState | None) -> None:
        """Remove the checkpoints of all later steps, and what killed writers left; all of them where there is no state.

        A later checkpoint was found unusable. The run makes those steps again, and what is left of them must not pass
        for newer than its own checkpoints, now or when it goes on another time.

        Raises:
            StorageError: if one cannot be removed.
        """
        later = [step for step in checkpoint_steps(self.run_folder) if state is None or step > state.step]
        leftovers = (self.run_folder / CHECKPOINTS_FOLDER).glob(".*.tmp")
        for folder in (*(checkpoint_folder(self.run_folder, step) for step in later), *leftovers):
            _remove(folder)
        if state is not None and state.best is not None:
            self._point_to_best(state.best)

    def prune(self, keep: int, state: TrainerState) -> None:
        """Remove all but the newest `keep` checkpoints and the best one (StorageError if one cannot be removed)."""
        best = state.best.step if state.best else None
        for step in checkpoint_steps(self.run_folder)[keep:]:
            if step != best:
                _remove(checkpoint_folder(self.run_folder, step))

    def _write(self, folder: Path, trained: Trained, state: TrainerState) -> dict[str, str]:
        """Write all files, the state last, and return the checksums of the others."""
        trained.model.save_pretrained(folder)
        for path in tokenizer_files(self.tokenizer):
            shutil.copyfile(path, folder / path.name)
        save_file(optimizer_tensors(trained.parameters, trained.optimizer), folder / OPTIMIZER_NAME)
        trained.projections.save(folder)
        paths = sorted(folder.rglob("*"))
        checksums = {path.relative_to(folder).as_posix(): file_checksum(path) for path in paths if path.is_file()}
        for path in paths:
            sync(path)
        text = state.model_copy(update={"checksums": checksums}).model_dump_json(indent=1)
        write_atomic(folder / STATE_NAME, text.encode())
        return checksums

    def _point_to_best(self, best: Best) -> None:
        """Make `best` in the run folder a link to the best checkpoint; a relative one, so that the run can be moved."""
        temporary = self.run_folder / f".{BEST_NAME}.tmp"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(checkpoint_folder(Path(), best.step))
        temporary.replace(self.run_folder / BEST_NAME)

    def _explain(self, final: Path, error: Exception) -> StorageError:
        free = shutil.disk_usage(self.run_folder).free
        return StorageError(
            f"cannot write the checkpoint {final} ({free:,} bytes free on that disk): {error}; make room and run the "
            "same command again, it goes on from the checkpoint before"
        )


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise StorageError(
            f"cannot remove {folder}: {error}; make it removable and run the same command again"
        ) from error


def load_trained(folder: Path, trained: Trained) -> None:
    """Put optimizer and projections where they were when the checkpoint `folder` was written, as the model is."""
    restore_optimizer(trained.parameters, trained.optimizer, load_file(folder / OPTIMIZER_NAME))
    trained.projections.load(folder)
