"""The sources of a corpus and their files."""

import functools
import logging
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.config import RunConfig
from flows.corpus.files import SourceFile
from flows.corpus.formats import known_endings, known_format
from flows.corpus.hub import find_dataset
from flows.corpus.locations import Location, locate
from flows.corpus.names import names_of
from flows.corpus_config import CorpusConfig, SourceConfig
from flows.errors import CorpusError

logger = logging.getLogger(__name__)

_SHOWN_NAMES = 3

# ImportError: fsspec names the package that a URL needs.
_UNREACHABLE = (
    ImportError,
    ValueError,
    EOFError,
    OSError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    tarfile.TarError,
)


def corpus_of(config: RunConfig) -> CorpusConfig:
    """The config's corpus (CorpusError if it has none)."""
    if config.corpus is None:
        raise CorpusError("the config has no `corpus`: name files, e.g. corpus: {files: [data/*.jsonl]}")
    return config.corpus


def find_sources(corpus: CorpusConfig, with_digests: bool = True) -> list[SourceFile]:
    """The files and datasets of all sources in order, the files of each pattern sorted, each once in a source.

    Digests take reading every byte of local files; without, those of files are empty.

    Raises:
        CorpusError: if a pattern matches nothing, a file's format is unknown, a dataset cannot be had or two sources
            read the same column of the same file.
    """
    found: dict[tuple[str, str], SourceFile] = {}
    for source in corpus.parts:
        key = corpus.key_of(source)
        for file in _files(source, key, with_digests):
            other = found.setdefault((file.url, source.column), file)
            if other.source is not source:
                raise CorpusError(
                    f"{key}: {file.url} belongs to source {other.source.name!r} already, and one text cannot have two "
                    f"weights: remove it from there or from source {source.name!r}"
                )
    return list(found.values())


def find_evaluation_sets(corpus: CorpusConfig) -> list[SourceFile]:
    """The files and datasets of the evaluation sets in order, each set as a source.

    Raises:
        CorpusError: as `find_sources` does.
    """
    return [
        file
        for index, one in enumerate(corpus.evaluation_sets or ())
        for file in _files(SourceConfig(**one.model_dump()), f"corpus.evaluation_sets.{index}")
    ]


def _files(source: SourceConfig, key: str, with_digests: bool = True) -> list[SourceFile]:
    if source.dataset is not None:
        return [find_dataset(source, key)]
    locations = [location for pattern in source.files or () for location in _matches(pattern, key)]
    names = names_of({location.url for location in locations})
    digests = [_digest(location, key) if with_digests else "" for location in locations]
    return [
        SourceFile(location.url, names[location.url], digest, source, location.size)
        for location, digest in zip(locations, digests, strict=True)
    ]


def _digest(location: Location, key: str) -> str:
    with _reachable(location.pattern, key):
        return location.digest()


def _matches(pattern: str, key: str) -> list[Location]:
    with _reachable(pattern, key):
        locations = list(locate(pattern))
    known = [location for location in locations if _is_readable(location)]
    if len(known) < len(locations):
        _warn_of_unknown(pattern, tuple(one.name for one in locations if one not in known))
    if not known:
        raise CorpusError(f"{key}.files: {pattern} matches no file; check the path (it is relative to {Path.cwd()})")
    return known


@functools.cache  # a command looks for its files several times
def _warn_of_unknown(pattern: str, names: tuple[str, ...]) -> None:
    shown = ", ".join(names[:_SHOWN_NAMES]) + (f" and {len(names) - _SHOWN_NAMES} more" * (len(names) > _SHOWN_NAMES))
    logger.warning("%s: left out %d file(s) of unknown formats: %s", pattern, len(names), shown)


def _is_readable(location: Location) -> bool:
    """Whether a file's format is known; in a folder others are passed over, named ones are an error."""
    if known_format(location.name) is None and not location.in_folder:
        raise CorpusError(
            f"{location.url}: unknown format; corpus files end in {known_endings()} (text formats may be compressed)"
        )
    return known_format(location.name) is not None


@contextmanager
def _reachable(pattern: str, key: str) -> Iterator[None]:
    try:
        yield
    except _UNREACHABLE as error:
        raise CorpusError(
            f"{key}.files: cannot open {pattern}: {error}; check the path, and for a URL its protocol and that the "
            "server or container can be read"
        ) from error


def require_unchanged(file: SourceFile) -> None:
    """CorpusError if a file that was just read is not what it was when it was found; a dataset has its revision."""
    if file.source.dataset is not None:
        return
    with _reachable(file.url, file.source.name):
        now = next(iter(locate(file.url))).digest()
    if now != file.digest:
        raise CorpusError(f"{file.url} changed while it was read: run the command again when it is at rest")
