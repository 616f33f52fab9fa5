"""Where metrics are shown beside the run's own file: TensorBoard, Weights & Biases, MLflow."""

import logging
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any, Protocol

from storage.files import write_atomic
from trainer.errors import LoggerError, MissingPackageError
from trainer.identity import training_id
from trainer.job import LoggerName, TrainJob
from trainer.metrics import Metrics
from trainer.run_files import MLFLOW_RUN_NAME, TENSORBOARD_FOLDER

logger = logging.getLogger(__name__)


class MetricsLogger(Protocol):
    """Takes the records of a run, one after another."""

    def log(self, record: Metrics) -> None:
        """Show one record."""

    def close(self, failed: bool) -> None:
        """No more records come: the run ended, by an error if it `failed`."""


def require_loggers(names: Sequence[LoggerName]) -> None:
    """MissingPackageError if a logger's package is not installed; asked before any work starts."""
    for name in names:
        if find_spec(name) is None:
            raise MissingPackageError(
                f"the logger {name!r} needs the package {name}, which is not installed: pip install 'xtoken[{name}]', "
                f"or leave {name!r} out of `loggers`"
            )


def scalars(record: Metrics) -> Iterator[tuple[str, float]]:
    """The record's numbers by name, as loggers show them: `kd/<teacher>` for each; 1 for the one that was chosen."""
    if record.selected_teacher is not None:
        yield f"selected_teacher/{record.selected_teacher}", 1.0
    for name, value in record.model_dump(exclude_none=True, exclude={"step", "selected_teacher"}).items():
        if isinstance(value, dict):
            yield from ((f"{name}/{teacher}", one) for teacher, one in value.items())
        else:
            yield name, value


def open_loggers(job: TrainJob, first_step: int) -> list[MetricsLogger]:
    """The loggers of a run that goes on after `first_step`, -1 for a new one.

    Each shows one training as one run, also after a restart. Steps that are made again replace those shown before in
    TensorBoard, and are shown a second time, with the same numbers, in W&B and MLflow, which forget nothing.

    Raises:
        LoggerError: if one cannot be opened for a new run. A run that goes on does so without it.
    """
    return [opened for name in job.settings.loggers if (opened := _opened(name, job, first_step)) is not None]


def run_title(job: TrainJob) -> str:
    """What people see of the run among others: `<run>/<training>`."""
    return "/".join(job.run_folder.parts[-2:])


def _opened(name: LoggerName, job: TrainJob, first_step: int) -> MetricsLogger | None:
    makers: dict[LoggerName, Callable[[TrainJob, int], MetricsLogger]] = {
        "tensorboard": TensorBoardLogger,
        "wandb": WandbLogger,
        "mlflow": MlflowLogger,
    }
    try:
        return Forgiving(name, makers[name](job, first_step))
    except Exception as error:
        if first_step < 0:
            raise LoggerError(
                f"the logger {name!r} cannot be opened: {error}; set it up on every machine that trains, or leave it "
                "out of `loggers`"
            ) from error
        _warn_of(name, error)
        return None


def _warn_of(name: LoggerName, error: Exception) -> None:
    logger.warning("the logger %r fails, training goes on without what it misses: %s", name, error)


class Forgiving:
    """A logger whose failures end no run: the first is told, and each record is tried anew."""

    def __init__(self, name: LoggerName, inner: MetricsLogger) -> None:
        self._name = name
        self._inner = inner
        self._was_told = False

    def log(self, record: Metrics) -> None:
        self._try(lambda: self._inner.log(record))

    def close(self, failed: bool) -> None:
        self._try(lambda: self._inner.close(failed))

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            if not self._was_told:
                _warn_of(self._name, error)
            self._was_told = True


class TensorBoardLogger:
    """Event files in the run folder; `tensorboard --logdir <workspace>/runs` shows all runs."""

    def __init__(self, job: TrainJob, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(job.run_folder / TENSORBOARD_FOLDER), purge_step=first_step + 1)

    def log(self, record: Metrics) -> None:
        for name, value in scalars(record):
            self._writer.add_scalar(name, value, record.step)
        self._writer.flush()  # a killed run keeps its curve

    def close(self, failed: bool) -> None:
        self._writer.close()


class WandbLogger:
    """One W&B run per training; project aside, its settings come from W&B's own environment.

    W&B takes no step twice, as a run that goes on from a checkpoint gives it, so the step is a metric like the others,
    over which they are drawn.
    """

    def __init__(self, job: TrainJob, first_step: int) -> None:
        import wandb

        self._run: Any = wandb.init(
            project="xtoken",
            name=run_title(job),
            id=training_id(job.run_folder),
            dir=str(job.run_folder),
            config=job.settings.model_dump(mode="json"),
            allow_val_change=True,
            resume="allow",
        )
        self._run.define_metric("*", step_metric="step")

    def log(self, record: Metrics) -> None:
        self._run.log({"step": record.step, **dict(scalars(record))})

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


class MlflowLogger:
    """One MLflow run per training; server and experiment come from MLflow's own environment."""

    def __init__(self, job: TrainJob, first_step: int) -> None:
        import mlflow

        self._mlflow: Any = mlflow
        path = job.run_folder / MLFLOW_RUN_NAME
        if not (path.is_file() and self._goes_on(path.read_text())):
            run = mlflow.start_run(run_name=run_title(job))
            write_atomic(path, run.info.run_id.encode())
            mlflow.log_params(job.settings.model_dump(mode="json"))

    def _goes_on(self, run_id: str) -> bool:
        """Whether the run of an earlier attempt is open again; not if someone has deleted it."""
        try:
            self._mlflow.start_run(run_id=run_id)
        except self._mlflow.MlflowException:
            return False
        return True

    def log(self, record: Metrics) -> None:
        self._mlflow.log_metrics(dict(scalars(record)), step=record.step)

    def close(self, failed: bool) -> None:
        self._mlflow.end_run("FAILED" if failed else "FINISHED")
