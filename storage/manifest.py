"""What an artifact says of itself: `manifest.json`, written last."""

import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

MANIFEST_NAME = "manifest.json"
_RECORDED_PACKAGES = ("xtoken", "numpy", "pyarrow", "tokenizers", "torch", "transformers")
# A count that is not a number is written as NaN: null would make the file unreadable.
_SETTINGS = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class FileEntry(BaseModel):
    """One finished file of an artifact.

    `key` is the hash of what the file was made from; `rows` is 0 for files that are not tables; `stats` are numbers
    that the stage wants to keep: counts, which add up over shards, and others, of which it makes the manifest's stats.
    """

    model_config = _SETTINGS

    name: str
    key: str
    rows: int
    bytes: int
    checksum: str
    stats: dict[str, float] = Field(default_factory=dict)


class Manifest(BaseModel):
    """All of an artifact: what determines it (`inputs`, `upstream`), its `files`, and what was counted (`stats`).

    See `storage.artifact.ArtifactSpec` for the difference between the first two.
    """

    model_config = _SETTINGS

    kind: str
    fingerprint: str
    algorithm_version: int
    inputs: dict[str, Any]
    upstream: dict[str, Any] = Field(default_factory=dict)
    files: tuple[FileEntry, ...]
    stats: dict[str, Any] = Field(default_factory=dict)
    environment: dict[str, str] = Field(default_factory=dict)
    created: str

    @property
    def shards(self) -> tuple[FileEntry, ...]:
        """The files that are shards, in order."""
        return tuple(entry for entry in self.files if entry.name.startswith("shard-"))

    def total(self, name: str) -> float:
        """The sum over all files of the count `name`."""
        return sum(entry.stats.get(name, 0) for entry in self.files)


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def environment() -> dict[str, str]:
    """Library versions, machine and device: recorded with an artifact, never part of its fingerprint."""
    found = {"python": platform.python_version(), "machine": platform.machine(), "device": _device()}
    for package in _RECORDED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _device() -> str:
    """The GPU that this process computes on, if torch has been told to use one, else the processor.

    Torch is asked only where it is imported, and no GPU is woken up to be named.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return torch.cuda.get_device_name()
    return platform.processor() or platform.machine()
