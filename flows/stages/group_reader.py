"""Reading the files of a group one after another: their windows, and what each of them gave."""

from collections.abc import Iterator

import pyarrow as pa

from flows.config import RunConfig
from flows.corpus import BadRows, Document, FileGroup, corpus_of, read_documents, require_unchanged
from flows.stages.documents import Cutter
from storage.windows import GroupReading, Reading
from xtoken_core.occurrences import Occurrences


class GroupReader:
    """Reads each file to its end before the next, and looks then whether it is still what it was when it was found.

    seen: the documents of the corpus so far.
    """

    def __init__(self, config: RunConfig, group: FileGroup, seen: Occurrences) -> None:
        self._group = group
        self._source = group.files[0].source
        self._cutter = Cutter(config, self._source, seen)
        self._bad_rows_are_fatal = corpus_of(config).bad_rows == "error"
        self._bad_rows: list[BadRows] = []

    def tables(self) -> Iterator[pa.Table]:
        """The windows of some documents at a time, in order.

        Raises:
            CorpusError: if a file cannot be read, or is not what it was, or has a bad row that is to be fatal.
        """
        return self._cutter.tables(self._files())

    def reading(self, shards: int) -> GroupReading:
        """What was read, once all of it is; it filled so many `shards`."""
        return GroupReading(shards=shards, files=tuple(self._reading(index) for index in range(len(self._group.files))))

    def _files(self) -> Iterator[Iterator[Document]]:
        for file in self._group.files:
            self._bad_rows.append(BadRows(fatal=self._bad_rows_are_fatal))
            yield read_documents(file, self._bad_rows[-1])
            require_unchanged(file)

    def _reading(self, index: int) -> Reading:
        cut, bad_rows = self._cutter.files[index], self._bad_rows[index]
        return Reading(
            file=self._group.files[index].name,
            source=self._source.name,
            is_chat=self._source.messages_column is not None,
            windows=cut.windows,
            documents=cut.documents,
            bytes=cut.bytes,
            empty=bad_rows.empty,
            bad_rows={str(reason): count for reason, count in bad_rows.counts.items()},
            examples=tuple(map(str, bad_rows.examples)),
        )
