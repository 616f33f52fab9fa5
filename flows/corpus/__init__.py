"""The corpus: which files and datasets a config names, and the documents in them, one at a time."""

from flows.corpus.bad_rows import BadRow, BadRows, Reason, log_left_out
from flows.corpus.documents import Document, Message
from flows.corpus.files import SourceFile
from flows.corpus.groups import FileGroup, groups_of
from flows.corpus.reading import read_documents, require_columns
from flows.corpus.sources import corpus_of, find_evaluation_sets, find_sources, require_unchanged
from flows.corpus.usable import require_documents

__all__ = [
    "BadRow",
    "BadRows",
    "Document",
    "FileGroup",
    "Message",
    "Reason",
    "SourceFile",
    "corpus_of",
    "find_evaluation_sets",
    "find_sources",
    "groups_of",
    "log_left_out",
    "read_documents",
    "require_columns",
    "require_documents",
    "require_unchanged",
]
