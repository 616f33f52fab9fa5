"""Where a run stands, as its checkpoints say it: `trainer_state.json`.

The state holds the checksum of every other file of its checkpoint, so damage is noticed. Neither schedule, data order
nor random numbers are in it: all are functions of the step.
"""

import logging
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from storage.digests import file_digest
from trainer.run_files import checkpoint_folder, checkpoint_steps

logger = logging.getLogger(__name__)

STATE_NAME = "trainer_state.json"


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


def sound_state(folder: Path) -> TrainerState | None:
    """The state of the checkpoint in `folder`; None, with a warning that says why, if it is damaged or gone."""
    try:
        state = TrainerState.model_validate_json((folder / STATE_NAME).read_bytes())
    except (OSError, ValidationError):
        logger.warning("not using the checkpoint %s: it has no readable %s", folder, STATE_NAME)
        return None
    problem = _damage(folder, state)
    if problem is not None:
        logger.warning("not using the checkpoint %s: %s", folder, problem)
        return None
    return state


def newest_state(run_folder: Path) -> TrainerState | None:
    """The state of the newest checkpoint that a run can go on from, or None.

    It must be undamaged, and so must the best checkpoint that it refers to: else the steps since an older one are
    trained again, and the best one is made again with them.
    """
    for step in checkpoint_steps(run_folder):
        state = sound_state(checkpoint_folder(run_folder, step))
        if state is not None and (state.best is None or _is_sound(run_folder, state.best)):
            return state
    return None


def _is_sound(run_folder: Path, best: Best) -> bool:
    return sound_state(checkpoint_folder(run_folder, best.step)) is not None


def _damage(folder: Path, state: TrainerState) -> str | None:
    for name, checksum in state.checksums.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if file_digest(folder / name) != checksum:
            return f"{name} is not what was written"
    return None
