"""Artifacts: folders of files that are complete, checked and named by what determines them."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from storage.columns import single_chunk
from storage.digests import file_digest, remember
from storage.errors import ArtifactError, StorageError
from storage.files import atomic_path, link_or_copy, remove_leftovers, write_atomic
from storage.hashing import bytes_checksum, file_checksum, fingerprint
from storage.manifest import MANIFEST_NAME, FileEntry, Manifest, environment, now

logger = logging.getLogger(__name__)


def shard_name(index: int) -> str:
    """The file name of shard `index`."""
    return f"shard-{index:05d}.arrow"


def read_table(path: Path) -> pa.Table:
    """Map an Arrow IPC file; an uncompressed one is not copied.

    Raises:
        ArtifactError: if the file is missing, truncated or not Arrow.
    """
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (pa.ArrowException, OSError) as error:
        raise ArtifactError(f"cannot read {path}: {error}; run the command that made it again to rebuild it") from error


def one_batch(table: pa.Table) -> pa.RecordBatch:
    """The table as one record batch, also where it has no rows: every column of a shard is then exactly one chunk.

    Raises:
        StorageError: if a column is too large for that (2 GB of text, 2^31 list values).
    """
    try:
        columns = [single_chunk(column) for column in table.columns]
    except pa.ArrowInvalid as error:
        raise StorageError(f"a shard's column is too large ({error}): lower `windows.windows_per_shard`") from error
    return pa.RecordBatch.from_arrays(columns, schema=table.schema)


@dataclass(frozen=True)
class Artifact:
    """A complete artifact: its folder and its manifest."""

    folder: Path
    manifest: Manifest

    def __len__(self) -> int:
        return len(self.manifest.shards)

    @property
    def rows(self) -> int:
        """Rows of all shards together."""
        return sum(entry.rows for entry in self.manifest.shards)

    @property
    def bytes(self) -> int:
        """Bytes of all files together."""
        return sum(entry.bytes for entry in self.manifest.files)

    def path(self, name: str) -> Path:
        """Where the file `name` of this artifact is."""
        return self.folder / name

    def table(self, index: int) -> pa.Table:
        """Shard `index`, mapped into memory."""
        return read_table(self.path(self.manifest.shards[index].name))


@dataclass(frozen=True)
class ArtifactSpec:
    """Which artifact is wanted: its kind and everything that determines its content.

    `algorithm_version` is raised by a fix that changes the content, so that older files are not taken for the new ones.
    `inputs` determine every shard; `upstream` names what the shards are made from, one by one, which each shard's own
    key says too: two artifacts that differ only there hold equal shards under equal keys.
    """

    kind: str
    algorithm_version: int
    inputs: Mapping[str, Any]
    upstream: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """The name of the artifact's folder."""
        return fingerprint([self.kind, self.algorithm_version, {**self.inputs, **self.upstream}])

    def makes_the_shards_of(self, other: "ArtifactSpec | Manifest") -> bool:
        """Whether shards with one key are equal in both: they differ at most in what they are made from."""
        return (self.kind, self.algorithm_version) == (other.kind, other.algorithm_version) and dict(
            self.inputs
        ) == dict(other.inputs)


def damage(folder: Path, entry: FileEntry, fresh: bool = False) -> str | None:
    """What is wrong with a file of an artifact, or None; `fresh` reads the file even if its digest is remembered."""
    path = folder / entry.name
    try:
        size = path.stat().st_size
        if size != entry.bytes:
            return f"{path} has {size:,} bytes, its manifest says {entry.bytes:,}"
        found = file_digest(path, fresh)
    except FileNotFoundError:
        return f"{path} is missing"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    if found != entry.checksum:
        return f"{path} has checksum {found}, its manifest says {entry.checksum}"
    return None


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a finished artifact.

    Raises:
        ArtifactError: if there is none, or it is not one of ours.
    """
    path = folder / MANIFEST_NAME
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ArtifactError(
            f"{folder} holds no finished artifact (no {MANIFEST_NAME}): run the command that makes it"
        ) from None
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}; repair that and try again") from error
    except ValidationError as error:
        raise ArtifactError(
            f"{path} is not a manifest of this version ({_first_problem(error)}): run the command that makes it again"
        ) from error


def _first_problem(error: ValidationError) -> str:
    """Where in the file the first of the errors is, and what it says."""
    first = error.errors(include_url=False)[0]
    return ": ".join([".".join(map(str, first["loc"])) or "the whole file", first["msg"]])


def open_artifact(folder: Path, kind: str) -> Artifact:
    """Open a finished artifact after checking every file against its manifest.

    Raises:
        ArtifactError: naming the file, what was expected and what was found.
    """
    manifest = read_manifest(folder)
    if manifest.kind != kind:
        raise ArtifactError(f"{folder} holds {manifest.kind}, not {kind}: give the folder of {kind}")
    for entry in manifest.files:
        problem = damage(folder, entry)
        if problem:
            raise ArtifactError(f"{problem}: run the command that makes {kind} again, it rebuilds what is damaged")
    return Artifact(folder, manifest)


@dataclass(frozen=True)
class Found:
    """An undamaged file of this artifact or of another."""

    folder: Path
    entry: FileEntry

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.folder / self.entry.name


def _readable_manifest(folder: Path) -> Manifest | None:
    try:
        return read_manifest(folder)
    except ArtifactError:
        return None


class ArtifactWriter:
    """Writes the files of one artifact, each once, and the manifest last.

    Every file gets a receipt (`<name>.json`) after it is safely on the disk, so that a stage that was killed goes on
    where it stopped: `find` says which files need no work, because they are there or because another artifact on the
    same `shelf` has them. The caller holds the artifact's lock meanwhile.
    """

    def __init__(self, folder: Path, spec: ArtifactSpec, shelf: Path | None = None) -> None:
        self.folder = folder
        self.spec = spec
        self.shelf = shelf

    def complete(self) -> Artifact | None:
        """The artifact if it is finished and undamaged; a damaged one loses its manifest and is said to be so."""
        if not (self.folder / MANIFEST_NAME).is_file():
            return None
        try:
            artifact = open_artifact(self.folder, self.spec.kind)
        except ArtifactError as error:
            problem = str(error).partition(": run the command")[0]  # the remedy of readers: this is that command
            logger.warning("making the damaged part of %s again: %s", self.spec.kind, problem)
            (self.folder / MANIFEST_NAME).unlink()
            return None
        return artifact if artifact.manifest.fingerprint == self.spec.fingerprint else None

    def finished(self, name: str, key: str) -> FileEntry | None:
        """The receipt of file `name` if it was made from `key` and is undamaged."""
        try:
            entry = FileEntry.model_validate_json(self._receipt(name).read_bytes())
        except (OSError, ValidationError):
            return None
        if entry.key != key or damage(self.folder, entry):
            return None
        return entry

    def find(self, name: str, key: str) -> Found | None:
        """File `name` if it was made from `key` and is undamaged, else the like of it that a sibling has."""
        entry = self.finished(name, key)
        if entry is not None:
            return Found(self.folder, entry)
        sibling = self._siblings.get(key)
        return None if sibling is None or damage(sibling.folder, sibling.entry) else sibling

    def take(self, name: str, found: Found) -> FileEntry:
        """Make what `find` found a file of this artifact, if it is not yet.

        Nothing is copied where the file system has hard links. Files are replaced and never written into, so that
        neither artifact can change the other's.
        """
        if found.folder == self.folder:
            return found.entry
        with atomic_path(self.folder / name) as temporary:
            link_or_copy(found.path, temporary)
        remember(found.path, found.entry.checksum)  # a link changes the time of the last change
        return self._enter(name, found.entry.key, found.entry.rows, found.entry.checksum, found.entry.stats)

    def forget(self, name: str) -> None:
        """Take file `name` back: it is not what its key says."""
        self._receipt(name).unlink(missing_ok=True)
        (self.folder / name).unlink(missing_ok=True)

    @cached_property
    def _siblings(self) -> dict[str, Found]:
        """Key -> file of the finished artifacts on the shelf that differ only in what they were made from."""
        found = {}
        for path in sorted(self.shelf.rglob(MANIFEST_NAME)) if self.shelf and self.spec.upstream else ():
            manifest = _readable_manifest(path.parent)
            if manifest is not None and self.spec.makes_the_shards_of(manifest):
                found.update({entry.key: Found(path.parent, entry) for entry in manifest.files})
        return found

    def write_table(self, name: str, key: str, table: pa.Table, stats: Mapping[str, float] | None = None) -> FileEntry:
        """Write a table as one uncompressed record batch, so that readers map it without copying."""
        batch = one_batch(table)
        with atomic_path(self.folder / name) as temporary:
            with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_batch(batch)
            checksum = file_checksum(temporary)
        return self._enter(name, key, table.num_rows, checksum, stats)

    def write_bytes(self, name: str, key: str, data: bytes, stats: Mapping[str, float] | None = None) -> FileEntry:
        """Write a file that is not a table."""
        write_atomic(self.folder / name, data)
        return self._enter(name, key, 0, bytes_checksum(data), stats)

    def finish(self, entries: list[FileEntry], stats: Mapping[str, Any] | None = None) -> Artifact:
        """Write the manifest: from here on the artifact exists."""
        remove_leftovers(self.folder)
        manifest = Manifest(
            kind=self.spec.kind,
            fingerprint=self.spec.fingerprint,
            algorithm_version=self.spec.algorithm_version,
            inputs=dict(self.spec.inputs),
            upstream=dict(self.spec.upstream),
            files=tuple(entries),
            stats=dict(stats or {}),
            environment=environment(),
            created=now(),
        )
        write_atomic(self.folder / MANIFEST_NAME, manifest.model_dump_json(indent=1).encode())
        return Artifact(self.folder, manifest)

    def _enter(self, name: str, key: str, rows: int, checksum: str, stats: Mapping[str, float] | None) -> FileEntry:
        path = self.folder / name
        remember(path, checksum)
        entry = FileEntry(
            name=name, key=key, rows=rows, bytes=path.stat().st_size, checksum=checksum, stats=dict(stats or {})
        )
        write_atomic(self._receipt(name), entry.model_dump_json().encode())
        return entry

    def _receipt(self, name: str) -> Path:
        return self.folder / f"{name}.json"
