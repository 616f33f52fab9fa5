"""Finding files: paths, folders, globs and fsspec URLs, each file with a digest that changes with its bytes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import fsspec

from storage.digests import file_digest
from storage.hashing import fingerprint, stream_checksum

# How filesystems name what changes with a file's bytes, the hashes of the content first.
_CHECKSUMS = ("md5Hash", "Content-MD5", "Digest", "blob_id", "sha", "hex", "CRC", "ETag", "etag")
_TIMES = ("Last-Modified", "LastModified", "last_modified", "mtime", "modify", "modificationTime")
_CACHES = ("simplecache", "filecache", "blockcache", "cached")


@dataclass(frozen=True)
class Location:
    """A file that a pattern names; `in_folder` says that the pattern named a folder above it."""

    filesystem: Any
    path: str
    pattern: str
    in_folder: bool

    @property
    def name(self) -> str:
        """The file's name without the folder."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def url(self) -> str:
        """What opens the file again: a path, or a URL that keeps the container it lies in."""
        if self._is_local:
            return self.path
        url = self.filesystem.unstrip_protocol(self.path)
        return _chained(self.pattern, url) if "::" in self.pattern else url

    @property
    def size(self) -> int | None:
        """Bytes as stored; None where the file system does not know."""
        size: int | None = self._info.get("size")
        return size

    def digest(self) -> str:
        """Of the bytes, or of what the file system says that changes with them."""
        if self._is_local:
            return file_digest(Path(self.path))
        # Times within a container prove nothing: archivers may set them all to one.
        return self._remote_digest(_CHECKSUMS if "::" in self.pattern else _CHECKSUMS + _TIMES)

    @property
    def _is_local(self) -> bool:
        return isinstance(self.filesystem, fsspec.get_filesystem_class("file"))

    @cached_property
    def _info(self) -> Mapping[str, Any]:
        """All that the file system says of the file: over a network that is a request."""
        found: Mapping[str, Any] = self.filesystem.info(self.path)
        return found

    def _remote_digest(self, stamps: tuple[str, ...]) -> str:
        """From the first of `stamps` that the file system knows of the file; where it knows none, from the bytes."""
        for stamp in stamps:
            if self._info.get(stamp):
                return fingerprint([stamp, str(self._info[stamp]), self.size])
        with self.filesystem.open(self.path, "rb") as file:
            return stream_checksum(file)


def locate(pattern: str) -> Iterator[Location]:
    """The files that a path, folder, glob or fsspec URL names, sorted. Hidden files of a folder are not part of it."""
    filesystem, path = fsspec.core.url_to_fs(pattern)
    filesystem.invalidate_cache()  # a listing that this process remembers may be old
    if filesystem.isfile(path):  # also where the name holds [ or *
        return iter([Location(filesystem, path, pattern, False)])
    if filesystem.isdir(path):
        found = sorted(file for file in filesystem.find(path) if not _is_hidden(file, path))
        return (Location(filesystem, file, pattern, True) for file in found)
    found = sorted(match for match in filesystem.glob(path) if filesystem.isfile(match))
    return (Location(filesystem, match, pattern, False) for match in found)


def _is_hidden(file: str, folder: str) -> bool:
    return any(part.startswith(".") for part in file.removeprefix(folder).split("/"))


def _chained(pattern: str, url: str) -> str:
    """A chained pattern (`zip://*.jsonl::file:///x.zip`) with a match in place of the link that it was found in.

    That is the first link that is not a cache (`simplecache::`), which have no path of their own.
    """
    links = pattern.split("::")
    place = next(index for index, link in enumerate(links) if link.split(":")[0] not in _CACHES)
    return "::".join([*links[:place], url, *links[place + 1 :]])


def path_of(url: str) -> str:
    """The path of a file through the containers that it lies in: `/data/x.zip/a.jsonl` of `zip://a.jsonl::/data/x.zip`."""
    if "://" not in url:  # a local path, which may hold `::`
        return url
    *inner, outer = (link for link in url.split("::") if link.split(":")[0] not in _CACHES)
    return "/".join([outer, *(link.partition("://")[2] for link in reversed(inner))])
