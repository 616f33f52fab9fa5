"""Reading a file of the corpus, one document at a time."""

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pyarrow as pa

from flows.corpus.bad_rows import Bad, BadRow, BadRows
from flows.corpus.documents import Document, chat_document, text_document
from flows.corpus.files import SourceFile
from flows.corpus.formats import format_of
from flows.errors import CorpusError

# UnicodeDecodeError: of names in a table's schema; of texts it is a bad row.
_DAMAGE = (
    UnicodeDecodeError,
    EOFError,
    OSError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    tarfile.TarError,
    pa.ArrowException,
)


def read_documents(file: SourceFile, bad_rows: BadRows) -> Iterator[Document]:
    """The documents of a file in order. Rows that give none are counted in `bad_rows`, and logged at the end.

    Raises:
        CorpusError: if the file is damaged or not of the format that its name says, or lacks the column; at a bad row
            if `bad_rows` are fatal.
    """
    with _explained(file):
        yield from _documents(file, bad_rows)
    bad_rows.log(file.name)


def require_columns(files: Iterable[SourceFile]) -> None:
    """Look into the first file of each source: whether it is of its format, and has the column.

    A wrong column is mostly wrong in every file, and there may be too many to look into each before any work. Datasets
    are left out, since they come from elsewhere.

    Raises:
        CorpusError: as `read_documents` does.
    """
    firsts = {file.source.name: file for file in reversed(list(files)) if file.source.dataset is None}
    for file in firsts.values():
        with _explained(file):
            if format_of(file).columns(file):
                next(format_of(file).read(file), None)


def _documents(file: SourceFile, bad_rows: BadRows) -> Iterator[Document]:
    known = format_of(file)
    convert = chat_document if file.source.messages_column else text_document
    for number, value in known.read(file):
        found = value if isinstance(value, Bad) else convert(value)
        if isinstance(found, Document):
            yield found
        elif found is None:
            bad_rows.empty += 1
        else:
            bad_rows.add(BadRow(file.url, f"{known.place} {number}", found))


@contextmanager
def _explained(file: SourceFile) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise CorpusError(f"cannot read {file.url}: {error}; repair the file or leave it out of the corpus") from error
