"""Tables: parquet, and Arrow IPC in both of its forms; a column at a time, a few megabytes at a time."""

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flows.corpus.columns import values
from flows.corpus.files import BUFFER_BYTES, Row, SourceFile, open_arrow, open_bytes
from flows.errors import CorpusError

BATCH_BYTES = 8 << 20
BATCH_ROWS = 256  # a repeated text is stored once: what a batch takes is known only when it is decoded
_FILE_MAGIC = b"ARROW1"


def read_parquet(file: SourceFile) -> Iterator[Row]:
    """The column's values with their row numbers, counted from 0."""
    with open_bytes(file) as stream:
        # Without read-ahead and with a buffer, a row group is decoded page by page: its size does not matter.
        table = pq.ParquetFile(stream, pre_buffer=False, buffer_size=BUFFER_BYTES)
        require_column(file, table.schema_arrow)
        yield from enumerate(_values(_parquet_arrays(table, file.source.column)))


def _parquet_arrays(table: pq.ParquetFile, column: str) -> Iterator[pa.Array]:
    for index in range(table.num_row_groups):
        group = table.metadata.row_group(index)
        # Of all columns: to ask a damaged file for one column's size aborts the process (pyarrow 26).
        rows = _rows_at_once(group.total_byte_size, group.num_rows)
        for batch in table.iter_batches(batch_size=rows, row_groups=[index], columns=[column]):
            yield batch.column(column)


def parquet_columns(file: SourceFile) -> list[str]:
    """The names of the columns."""
    with open_bytes(file) as stream:
        return sorted(pq.read_schema(stream).names)


def arrow_columns(file: SourceFile) -> list[str]:
    """The names of the columns."""
    with open_arrow(file) as stream:
        return sorted(_reader(stream).schema.names)


def read_arrow(file: SourceFile) -> Iterator[Row]:
    """The column's values with their row numbers, counted from 0."""
    with open_arrow(file) as stream:
        yield from enumerate(_values(batch.column(file.source.column) for batch in _record_batches(file, stream)))


def _values(arrays: Iterable[pa.Array]) -> Iterator[Any]:
    for array in arrays:
        array.validate()
        rows = _rows_at_once(array.nbytes, len(array))
        for start in range(0, len(array), rows):
            yield from values(array.slice(start, rows))


def _record_batches(file: SourceFile, stream: Any) -> Iterator[pa.RecordBatch]:
    reader = _reader(stream)
    require_column(file, reader.schema)
    if isinstance(reader, pa.ipc.RecordBatchFileReader):
        return (reader.get_batch(index) for index in range(reader.num_record_batches))
    return iter(reader)


def _reader(stream: Any) -> pa.ipc.RecordBatchFileReader | pa.ipc.RecordBatchStreamReader:
    is_file = stream.read(len(_FILE_MAGIC)) == _FILE_MAGIC
    stream.seek(0)
    return pa.ipc.open_file(stream) if is_file else pa.ipc.open_stream(stream)


def require_column(file: SourceFile, schema: pa.Schema) -> None:
    """Raise CorpusError if a table has no column, or several, of the name that is asked for."""
    column, name = file.source.column, file.source.name
    if schema.names.count(column) != 1:
        count = "no column" if column not in schema.names else "more than one column"
        raise CorpusError(
            f"{file.url} has {count} {column!r}, only {sorted(schema.names)}: set the column of source {name!r}"
        )


def _rows_at_once(size: int, rows: int) -> int:
    """How many of `rows` rows that take `size` bytes are decoded at once."""
    return max(1, min(BATCH_ROWS, BATCH_BYTES * rows // max(1, size)))
