"""Groups of small files that follow each other: a group has shards in common, where a shard of its own for each file
would cost more than its text.

Where a group ends is decided by the files themselves, each by its key: a file that is added, removed or changed moves
no boundary but those beside it, and all other groups stay what they were.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from flows.corpus.files import SourceFile
from storage.hashing import fingerprint

LARGE_BYTES = 1 << 20  # as stored; such a file is a group of its own
_MEAN_FILES = 256
# Reached by one group in some thousand, or where many files are the same and none of them ends a group.
_MOST_BYTES, _MOST_FILES = 8 * LARGE_BYTES, 8 * _MEAN_FILES


@dataclass(frozen=True)
class FileGroup:
    """Files of one source that share their shards, at least one."""

    files: tuple[SourceFile, ...]

    @cached_property
    def key(self) -> str:
        """The hash of all that determines the documents of the files, and of the name of their source."""
        return fingerprint([file.key for file in self.files])

    @property
    def name(self) -> str:
        """For messages."""
        more = len(self.files) - 1
        return self.files[0].name + (f" and {more} more file(s)" if more else "")


def groups_of(files: Iterable[SourceFile]) -> list[FileGroup]:
    """The files in their order, those of a group together. On average a group has 1 MB or 256 files, if it has more."""
    groups: list[list[SourceFile]] = []
    held = 0  # bytes of the last group
    for file in files:
        if not groups or _is_between_groups(groups[-1][-1], file) or _is_full(groups[-1], held):
            groups.append([])
            held = 0
        groups[-1].append(file)
        held += file.size or 0
    return [FileGroup(tuple(group)) for group in groups]


def _is_between_groups(file: SourceFile, following: SourceFile) -> bool:
    return file.source.name != following.source.name or _ends_a_group(file) or _is_large(following)


def _ends_a_group(file: SourceFile) -> bool:
    """With the probability of a file's share of what a group has on average; a large file always does."""
    share = 1.0 if file.size is None else file.size / LARGE_BYTES + 1 / _MEAN_FILES
    return int(file.key, 16) / 16 ** len(file.key) < share


def _is_large(file: SourceFile) -> bool:
    return file.size is None or file.size >= LARGE_BYTES


def _is_full(group: list[SourceFile], size: int) -> bool:
    return len(group) >= _MOST_FILES or size >= _MOST_BYTES
