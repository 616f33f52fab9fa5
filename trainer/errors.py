"""The errors of the trainer that trying again does not cure."""

from storage.errors import ArtifactError, StorageError


class TrainerError(RuntimeError):
    """Base of the trainer's errors; each message says what was found and what to do."""


class RunConflictError(TrainerError):
    """The run folder holds a run of a different job."""


class DataError(TrainerError):
    """The files are sound but do not fit each other or the settings."""


class ModelError(TrainerError):
    """The student does not fit its tokenizer or the windows."""


class MissingPackageError(TrainerError):
    """An optional package is needed and not installed."""


class DivergedError(TrainerError):
    """The loss is no longer a number."""


class WorkersError(TrainerError):
    """The machine or the cluster cannot run the workers, or they failed too often."""


class PeerFailedError(TrainerError):
    """Another worker of the run failed for good; its error says why."""


# What a worker reports instead of raising: Ray restarts workers that raise, and these would only fail again.
LASTING = (ArtifactError, StorageError, TrainerError)
