"""The errors of the on-disk contract."""


class ArtifactError(RuntimeError):
    """An artifact is missing, damaged or not what the reader asked for; the message says which file and what to do."""


class StorageError(RuntimeError):
    """The file system refused a write (disk full, no permission); nothing half-written stays under a final name."""
