"""Where metrics are shown beside the run's own file: TensorBoard, Weights & Biases, MLflow."""

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any, Protocol

from trainer.errors import MissingPackageError
from trainer.job import LoggerName, TrainJob
from trainer.metrics import Metrics
from trainer.run_files import TENSORBOARD_FOLDER


class MetricsLogger(Protocol):
    """Takes the records of a run, one after another."""

    def log(self, record: Metrics) -> None:
        """Show one record."""

    def close(self) -> None:
        """Everything was shown."""


def require_loggers(names: Sequence[LoggerName]) -> None:
    """MissingPackageError if a logger's package is not installed; asked before any work starts."""
    for name in names:
        if find_spec(name) is None:
            raise MissingPackageError(
                f"the logger {name!r} needs the package {name}, which is not installed: pip install 'xtoken[{name}]', "
                f"or leave {name!r} out of `loggers`"
            )


def scalars(record: Metrics) -> Iterator[tuple[str, float]]:
    """The record's numbers by name, as loggers show them: `kd/<teacher>` for each teacher."""
    for name, value in record.model_dump(exclude_none=True, exclude={"step", "kd"}).items():
        yield name, value
    for teacher, value in record.kd.items():
        yield f"kd/{teacher}", value


def open_loggers(job: TrainJob, first_step: int) -> list[MetricsLogger]:
    """The loggers of a run that goes on after `first_step`; what was shown beyond that step is replaced."""
    makers: dict[LoggerName, Callable[[TrainJob, int], MetricsLogger]] = {
        "tensorboard": TensorBoardLogger,
        "wandb": WandbLogger,
        "mlflow": MlflowLogger,
    }
    return [makers[name](job, first_step) for name in job.settings.loggers]


class TensorBoardLogger:
    """Event files in the run folder; `tensorboard --logdir <workspace>/runs` shows all runs."""

    def __init__(self, job: TrainJob, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(job.run_folder / TENSORBOARD_FOLDER), purge_step=first_step + 1)

    def log(self, record: Metrics) -> None:
        for name, value in scalars(record):
            self._writer.add_scalar(name, value, record.step)
        self._writer.flush()  # a killed run keeps its curve

    def close(self) -> None:
        self._writer.close()


class WandbLogger:
    """One W&B run per run folder, continued under the same id; its settings come from W&B's own environment."""

    def __init__(self, job: TrainJob, first_step: int) -> None:
        import wandb

        self._run: Any = wandb.init(
            project="xtoken",
            name=job.run_folder.name,
            id=job.run_folder.name,
            dir=str(job.run_folder),
            config=job.settings.model_dump(mode="json"),
            resume="allow",
        )

    def log(self, record: Metrics) -> None:
        self._run.log(dict(scalars(record)), step=record.step)

    def close(self) -> None:
        self._run.finish()


class MlflowLogger:
    """One MLflow run per attempt; server and experiment come from MLflow's own environment."""

    def __init__(self, job: TrainJob, first_step: int) -> None:
        import mlflow

        self._mlflow: Any = mlflow
        mlflow.start_run(run_name=job.run_folder.name)
        mlflow.log_params(job.settings.model_dump(mode="json"))

    def log(self, record: Metrics) -> None:
        self._mlflow.log_metrics({name.replace("/", "."): value for name, value in scalars(record)}, step=record.step)

    def close(self) -> None:
        self._mlflow.end_run()
