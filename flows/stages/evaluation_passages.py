"""The passages of the evaluation sets, read when they are needed first: often no shard is missing."""

from collections.abc import Iterator
from threading import Lock
from typing import Any

from flows.corpus import BadRows, Document, SourceFile, read_documents, require_unchanged
from flows.stages.document_parts import ragged_texts, said
from xtoken_core.ragged import Ragged
from xtoken_core.text.overlap import Passages, passage_run
from xtoken_core.text.words import Words, words_of

_BATCH_CHARACTERS = 4 << 20


class EvaluationPassages:
    """What the documents of a corpus are searched for."""

    def __init__(self, files: list[SourceFile], ngram: int) -> None:
        self._files = files
        self._ngram = ngram
        self._passages: Passages | None = None
        self._lock = Lock()

    @property
    def names(self) -> list[str]:
        """The sets, in order."""
        return list(dict.fromkeys(file.source.name for file in self._files))

    @property
    def key(self) -> list[object]:
        """All that determines the passages; nothing without sets."""
        return [self._ngram, *(file.key for file in self._files)] if self._files else []

    def read(self) -> Passages:
        """The passages (CorpusError if a file cannot be read)."""
        with self._lock:
            if self._passages is None:
                sets = {name: self._words(name) for name in self.names}
                self._passages = Passages.of(passage_run(self._ngram), sets)
            return self._passages

    def __reduce__(self) -> Any:
        """Workers elsewhere read the files for themselves."""
        return EvaluationPassages, (self._files, self._ngram)

    def _words(self, name: str) -> Iterator[Words]:
        for file in self._files:
            if file.source.name == name:
                yield from map(words_of, _batches(read_documents(file, BadRows())))
                require_unchanged(file)


def _batches(documents: Iterator[Document]) -> Iterator[Ragged]:
    batch: list[str] = []
    pending = 0
    for document in documents:
        batch.append(said(document.messages) if document.messages else document.text or "")
        pending += len(batch[-1])
        if pending >= _BATCH_CHARACTERS:
            yield ragged_texts(batch)
            batch, pending = [], 0
    yield ragged_texts(batch)
