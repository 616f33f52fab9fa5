"""The trainer's public surface: `train` one job, `evaluate` one checkpoint. Ray and torch are imported when called."""

import logging
from collections.abc import Callable

from pydantic import ValidationError

from storage.lock import artifact_lock
from trainer.errors import StoppedError, TrainerError
from trainer.identity import claim
from trainer.job import EvaluateJob, Evaluation, TrainJob, TrainResult
from trainer.loggers import require_loggers
from trainer.metrics import Metrics, MetricsTail, cut_metrics, read_metrics
from trainer.run_files import FAILURE_NAME, RESULT_NAME, STOP_NAME, WRITER_LOCK, checkpoint_folder, checkpoint_steps
from trainer.state import newest_state, sound_state

__all__ = ["Metrics", "TrainerError", "evaluate", "read_metrics", "require_loggers", "train"]

logger = logging.getLogger(__name__)

OnMetrics = Callable[[Metrics], None]


def train(job: TrainJob, on_metrics: OnMetrics | None = None) -> TrainResult:
    """Train a student, or finish what an earlier call began, or return what it found.

    `on_metrics` gets every record that this call adds, in the calling thread, while the workers run.

    Raises:
        RunConflictError: if the run folder holds another job.
        ArtifactError: if an input is missing or damaged, or inputs do not belong together.
        ModelError: if the student cannot be opened or is too small.
        StoppedError: if the file `stop` in the run folder ended it before its time.
        TrainerError: for everything else that trying again does not cure (see `trainer.errors`).
        KeyboardInterrupt: after the workers stopped and saved a checkpoint.
    """
    require_loggers(job.settings.loggers)
    with artifact_lock(job.run_folder):
        claim(job)
        return _finished(job) or _train(job, on_metrics or (lambda record: None))


def evaluate(job: EvaluateJob) -> Evaluation:
    """Measure a checkpoint on the held-out windows and, if asked to, on tasks, in this process.

    Raises:
        ArtifactError, DataError, ModelError: if the files are missing, damaged or do not fit.
        MissingPackageError: if tasks are asked for and lm-eval is not installed.
    """
    from trainer.evaluation import evaluate_checkpoint

    return evaluate_checkpoint(job)


def _train(job: TrainJob, on_metrics: OnMetrics) -> TrainResult:
    from trainer.opened import open_job
    from trainer.ray_driver import fit

    open_job(job)
    resumed_from = _clean_up(job)
    tail = MetricsTail(job.run_folder, after_step=-1 if resumed_from is None else resumed_from)

    def report() -> None:
        for record in tail.new():
            on_metrics(record)

    fit(job, report)
    result = _read_result(job)
    if result is None:
        raise StoppedError(
            f"the run was stopped after step {checkpoint_steps(job.run_folder)[0]} by the file "
            f"{job.run_folder / STOP_NAME}; run the same command again to go on from there"
        )
    return result.model_copy(update={"resumed_from": resumed_from})


def _clean_up(job: TrainJob) -> int | None:
    """Remove what an earlier attempt left; the step of the checkpoint to go on from, if there is one."""
    with artifact_lock(job.run_folder / WRITER_LOCK):
        for name in (RESULT_NAME, STOP_NAME, FAILURE_NAME):
            (job.run_folder / name).unlink(missing_ok=True)
        state = newest_state(job.run_folder)
        cut_metrics(job.run_folder, -1 if state is None else state.step)
    if state is None:
        return None
    logger.info("run %s goes on from its checkpoint of step %d", job.run_folder.name, state.step)
    return state.step


def _finished(job: TrainJob) -> TrainResult | None:
    """The result of a finished run whose best checkpoint is still there and undamaged."""
    result = _read_result(job)
    if result is None:
        return None
    if sound_state(result.best_checkpoint) is None:
        return None
    logger.info("run %s is finished already", job.run_folder.name)
    return result.model_copy(update={"reused": True})


def _read_result(job: TrainJob) -> TrainResult | None:
    try:
        result = TrainResult.model_validate_json((job.run_folder / RESULT_NAME).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    # The folder may have been moved since.
    return result.model_copy(update={"best_checkpoint": checkpoint_folder(job.run_folder, result.best_step)})
