"""JSON lines: one object per line; a line that is broken is a bad row, a file without a good line is an error."""

import io
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import orjson

from flows.corpus.bad_rows import Bad, Reason, shortened
from flows.corpus.files import BUFFER_BYTES, Row, SourceFile, open_bytes
from flows.errors import CorpusError

# A file of another format is found out after so many lines, not at the end of a terabyte.
PROBED_LINES = 10_000


def read_jsonl(file: SourceFile) -> Iterator[Row]:
    """The column's values with their line numbers, counted from 1; blank lines are none.

    Raises:
        CorpusError: if none of the first lines is a JSON object with the column.
    """
    rows = _rows(file)
    bad: list[Row] = []
    for row in rows:
        if not isinstance(row[1], Bad):
            yield from bad
            yield row
            yield from rows
            return
        bad.append(row)
        if len(bad) == PROBED_LINES:
            break
    if bad:
        raise CorpusError(_no_good_line(file, *bad[0]))


def jsonl_columns(file: SourceFile) -> list[str]:
    """The keys of the first line that is an object; none where none of the first lines is."""
    with _lines(file) as lines:
        parsed = (parse_exactly(line) for line in islice(lines, PROBED_LINES) if not line.isspace())
        return sorted(next((row for row in parsed if isinstance(row, dict)), ()))


def _no_good_line(file: SourceFile, number: int, bad: Bad) -> str:
    if bad.reason is Reason.NO_COLUMN:
        return f"{file.url} has {bad.found}: set the column of source {file.source.name!r}"
    return (
        f"{file.url} is not JSONL, no line holds a JSON object: line {number} is {bad}; repair the file or leave it "
        "out of the corpus"
    )


def _rows(file: SourceFile) -> Iterator[Row]:
    column = file.source.column
    parse = parse_exactly if file.source.messages_column else parse_fast
    with _lines(file) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.isspace():
                yield number, _value(parse(line), column)


@contextmanager
def _lines(file: SourceFile) -> Iterator[Iterable[bytes]]:
    with open_bytes(file) as stream:
        yield io.BufferedReader(stream, BUFFER_BYTES)  # type: ignore[type-var]  # fsspec's own are slow


def _value(row: Any, column: str) -> Any:
    if isinstance(row, dict):
        return row[column] if column in row else Bad(Reason.NO_COLUMN, f"no column {column!r}, only {_names(row)}")
    return row if isinstance(row, Bad) else Bad(Reason.NOT_JSON, f"{shortened(row)} is not an object")


def _names(row: dict[str, Any]) -> str:
    return shortened(sorted(row))


def parse_fast(line: bytes) -> Any:
    """The value of a line of JSON, or Bad. Integers beyond 64 bits lose digits: enough where a text is wanted."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return parse_exactly(line)  # also takes a byte order mark, NaN and lone surrogates


def parse_exactly(line: bytes) -> Any:
    """The value of a line of JSON, or Bad."""
    try:
        return json.loads(line.decode("utf-8-sig").rstrip())  # so that no message speaks of the end of the line
    except UnicodeDecodeError as error:
        return Bad(Reason.NOT_UTF8, shortened(line[max(0, error.start - 20) :]))
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", error)  # the rest of json's message counts lines within the line
        return Bad(Reason.NOT_JSON, f"{reason} in {shortened(line)}")
