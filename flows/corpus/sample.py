"""A little of the corpus, to look at before all of it is prepared."""

from collections.abc import Iterator
from itertools import islice

from flows.config import RunConfig
from flows.corpus.bad_rows import BadRows
from flows.corpus.documents import Document
from flows.corpus.files import SourceFile
from flows.corpus.reading import read_documents
from flows.corpus.sources import corpus_of, find_sources

_CHARACTERS = 1 << 20  # 300,000 tokens: shares of one in a hundred are known to a tenth of themselves
_FILES = 32
_LONGEST = 1 << 14  # characters of one document, so that there are 64 documents at least


def sample_texts(config: RunConfig, teacher: str) -> list[str]:
    """About a million characters from the first documents of files that lie evenly in what a teacher reads.

    Of chats what their messages say, without any template. Empty where the files have no text.

    Raises:
        CorpusError: if the corpus is missing or a file cannot be read.
    """
    everything = find_sources(corpus_of(config), with_digests=False)  # which would read all of it
    files = [file for file in everything if file.source.is_read_by(teacher)]
    chosen = files[:: -(-len(files) // _FILES)]
    return [text for file in chosen for text in _first_texts(file, _CHARACTERS // len(chosen))]


def _first_texts(file: SourceFile, wanted: int) -> Iterator[str]:
    documents = read_documents(file, BadRows(fatal=False))
    for text in map(_text, islice(documents, wanted)):
        yield text[: min(wanted, _LONGEST)]
        wanted -= min(len(text), _LONGEST)
        if wanted <= 0:
            return


def _text(document: Document) -> str:
    if document.messages is None:
        assert document.text is not None
        return document.text
    return "\n".join(message.get("content") or "" for message in document.messages)
