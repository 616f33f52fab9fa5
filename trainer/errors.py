"""The errors of the trainer that trying again does not cure."""

from storage.errors import ArtifactError, StorageError
from xtoken_core.models import ModelError


class TrainerError(RuntimeError):
    """Base of the trainer's errors; each message says what was found and what to do."""


class RunConflictError(TrainerError):
    """The run folder holds a run of a different job."""


class DataError(TrainerError):
    """The files are sound but do not fit each other or the settings."""


class MissingPackageError(TrainerError):
    """An optional package is needed and not installed."""


class LoggerError(TrainerError):
    """A logger cannot be opened."""


class DivergedError(TrainerError):
    """The loss is no longer a number."""


class GpuMemoryError(TrainerError):
    """A micro-batch does not fit the GPU."""


class PackingError(TrainerError):
    """The student cannot read several windows in one row."""


class StoppedError(TrainerError):
    """Someone asked the run to stop."""


class WorkersError(TrainerError):
    """The machine or the cluster cannot run the workers, or they failed too often."""


class PeerFailedError(TrainerError):
    """Another worker of the run failed for good; its error says why."""


# What a worker reports instead of raising: Ray restarts workers that raise, and these would only fail again.
LASTING = (ArtifactError, ModelError, StorageError, TrainerError)
