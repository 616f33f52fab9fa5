"""Nearly equal documents side by side: where each is from, and the first place where their texts differ."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from flows.stages.screened_documents import Documents
from storage.artifact import Artifact
from storage.screening import Excerpt, NearDuplicate
from storage.windows import FileRows
from xtoken_core.text.minhash import similarity

_EXAMPLES = 20
_COMPARED_WINDOWS = 256  # of a document, half a million characters: it may be as long as the corpus
_CHARACTERS_BEFORE, _CHARACTERS_AFTER = 60, 140


@dataclass(frozen=True, eq=False)
class _Texts:
    """The texts of documents.

    files: of the rows. first_rows: of each document (int64).
    """

    windows: Artifact
    documents: Documents
    files: FileRows
    first_rows: np.ndarray

    @classmethod
    def of(cls, windows: Artifact, documents: Documents) -> "_Texts":
        first_rows = np.cumsum(documents.rows, dtype=np.int64) - documents.rows
        return cls(windows, documents, FileRows.of(windows), first_rows)

    def file(self, document: int) -> str:
        return self.files.at(int(self.first_rows[document])).file

    def text(self, document: int) -> str:
        """As much of it as is compared."""
        first = int(self.first_rows[document])
        last = first + min(int(self.documents.rows[document]), _COMPARED_WINDOWS)
        return "".join(self._texts(first, last))

    def _texts(self, at: int, end: int) -> Iterator[str]:
        while at < end:
            index = int(np.searchsorted(self.files.shard_starts, at, side="right")) - 1
            rows = self.windows.table(index).slice(at - int(self.files.shard_starts[index]), end - at)
            yield from (row["text"] or row["messages"] for row in rows.select(["text", "messages"]).to_pylist())
            at += rows.num_rows


def duplicate_examples(windows: Artifact, documents: Documents, same_as: np.ndarray) -> Iterable[NearDuplicate]:
    """The first documents that are like another one: `same_as` names it for each document (int32 [n]), or itself."""
    texts = _Texts.of(windows, documents)
    for document in np.flatnonzero(same_as != np.arange(len(same_as)))[:_EXAMPLES].tolist():
        kept = int(same_as[document])
        pair = texts.text(kept), texts.text(document)
        at = _first_difference(*pair)
        yield NearDuplicate(
            kept=_excerpt(texts.file(kept), pair[0], at),
            document=_excerpt(texts.file(document), pair[1], at),
            similarity=round(similarity(documents.signatures[kept], documents.signatures[document]), 3),
        )


def _first_difference(one: str, other: str) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _excerpt(file: str, text: str, at: int) -> Excerpt:
    same, other = text[max(at - _CHARACTERS_BEFORE, 0) : at], text[at : at + _CHARACTERS_AFTER]
    return Excerpt(file=file, character=at, same=same, other=other)
