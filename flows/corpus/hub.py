"""Datasets of the Hugging Face hub, or folders in their layout, streamed through the package `datasets`."""

from collections.abc import Iterator
from typing import Any

from flows.corpus.columns import values
from flows.corpus.files import Row, SourceFile
from flows.corpus.tables import require_column
from flows.corpus_config import SourceConfig
from flows.errors import CorpusError
from storage.hashing import fingerprint

_BATCH_ROWS = 64
_DEFAULT_SPLIT = "train"


def find_dataset(source: SourceConfig, key: str) -> SourceFile:
    """A dataset as one file of the corpus; its digest is that of the revision that the hub has now.

    Raises:
        CorpusError: if the package is missing, or the dataset, subset, split or revision does not exist.
    """
    try:
        builder = _builder(source)
        builder.as_streaming_dataset(split=source.split or _DEFAULT_SPLIT)
    except ImportError as error:
        raise CorpusError(f"{key}.dataset needs a package: {error}; pip install 'xtoken[datasets]'") from error
    except Exception as error:  # the library raises errors of every kind
        raise CorpusError(
            f"{key}.dataset: cannot open {_url(source)}: {error}; check the id, subset, split and revision, and for a "
            "private one the login"
        ) from error
    return SourceFile(
        _url(source), str(source.dataset).rstrip("/").rsplit("/", 1)[-1], _digest(builder, source), source
    )


def read_dataset(file: SourceFile) -> Iterator[Row]:
    """The column's values with their row numbers, counted from 0."""
    try:
        yield from enumerate(_values(file))
    except CorpusError:
        raise
    except Exception as error:
        raise CorpusError(
            f"cannot read {file.url}: {error}; repair the dataset or remove it from the corpus"
        ) from error


def dataset_columns(file: SourceFile) -> list[str]:
    """The names of the columns, as far as the dataset's description tells."""
    return sorted(_builder(file.source).info.features or ())


def _values(file: SourceFile) -> Iterator[Any]:
    builder = _builder(file.source)
    if _digest(builder, file.source) != file.digest:
        raise CorpusError(f"{file.url} has changed since this command began: run it again, or name a `revision`")
    stream = builder.as_streaming_dataset(split=file.source.split or _DEFAULT_SPLIT)
    for table in stream.with_format("arrow").iter(batch_size=_BATCH_ROWS):
        require_column(file, table.schema)
        for chunk in table.column(file.source.column).chunks:
            yield from values(chunk)


def _builder(source: SourceConfig) -> Any:
    from datasets import load_dataset_builder

    return load_dataset_builder(source.dataset, name=source.subset, revision=source.revision)


def _digest(builder: Any, source: SourceConfig) -> str:
    """Of the builder's hash (the commit, for a dataset of the hub) and of the split's files with their versions."""
    split = source.split or _DEFAULT_SPLIT
    files = (builder.config.data_files or {}).get(split, [])
    versions = [list(version) for version in getattr(files, "origin_metadata", [])]
    return fingerprint([builder.hash, builder.config_id, split, [str(file) for file in files], versions])


def _url(source: SourceConfig) -> str:
    parts = {"subset": source.subset, "split": source.split, "revision": source.revision}
    chosen = "&".join(f"{key}={value}" for key, value in parts.items() if value)
    return f"datasets://{source.dataset}" + (f"?{chosen}" if chosen else "")
