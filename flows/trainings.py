"""The trainings of a run: their names, folders and settings. Cheap to import: the checks before any work need them."""

from pathlib import Path

from flows.config import RunConfig
from storage.workspace import Workspace
from trainer.job import SourceWeight, TrainingSettings

CE = "ce"
DISTILLED = "distilled"
# What says how to learn from teachers, as it is where there are none.
_OF_TEACHERS = {
    name: TrainingSettings.model_fields[name].default
    for name in ("dynamic_scaling", "temperature", "divergence", "combine", "projection_learning_rate")
}
READABLE = {CE: "cross-entropy", DISTILLED: "distilled"}


def run_folder(config: RunConfig) -> Path:
    """Where a run keeps its trainings, report and summary."""
    return Workspace(config.workspace).run(config.name)


def training_settings(config: RunConfig) -> dict[str, TrainingSettings]:
    """The trainings of a run: cross-entropy alone where the config has a `baseline`, then the distilled student."""
    settings = {}
    if config.baseline is not None:
        own = {"ce_weight": 1.0, "kd_weight": 0.0, "learning_rate": config.baseline.learning_rate}
        settings[CE] = config.training.model_copy(update=_OF_TEACHERS | own)
    settings[DISTILLED] = config.training
    return settings


def source_weights(config: RunConfig) -> tuple[SourceWeight, ...]:
    """How often an epoch takes the windows of each source of the corpus."""
    parts = config.corpus.parts if config.corpus else ()
    return tuple(SourceWeight(name=part.name, weight=part.weight) for part in parts)


def checkpoint_to_evaluate(config: RunConfig) -> Path:
    """`evaluation.checkpoint`, by default the run's best distilled one."""
    checkpoint = config.evaluation.checkpoint
    return Path(checkpoint).expanduser() if checkpoint else run_folder(config) / DISTILLED / "best"
