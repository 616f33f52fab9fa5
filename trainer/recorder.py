"""Rank 0's records of a run: the metrics file and the loggers."""

from typing import Self

from trainer.job import TrainJob
from trainer.loggers import open_loggers
from trainer.metrics import Metrics, MetricsFile, cut_metrics


class Recorder:
    """Writes each record everywhere; starts by forgetting what was recorded after `last_step`."""

    def __init__(self, job: TrainJob, last_step: int) -> None:
        cut_metrics(job.run_folder, last_step)
        self._file = MetricsFile(job.run_folder)
        self._loggers = open_loggers(job, last_step)

    def record(self, record: Metrics) -> None:
        """Write one record."""
        self._file.append(record)
        for logger in self._loggers:
            logger.log(record)

    def sync(self) -> None:
        """Make sure that the records are on the disk, as they must be before a checkpoint of the same step is."""
        self._file.sync()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close the file and the loggers, which show whether an error ended the run."""
        self._file.close()
        for logger in self._loggers:
            logger.close(failed=kind is not None)
