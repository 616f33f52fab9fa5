"""Rows without usable text: none ends a file, none is lost from sight."""

import json
import logging
from pathlib import Path

import pytest
from corpus_files import FORMATS, TABLES, Folder, as_jsonl
from fakes import reproducible
from hypothesis import given
from hypothesis import strategies as st

from flows.corpus import BadRow, BadRows, Reason
from flows.corpus.bad_rows import EXAMPLES_OF_A_REASON, Bad
from flows.errors import CorpusError

# A line of JSONL that gives no document, the reason, and how its example begins.
BAD_LINES = [
    (b'{"text": null}', Reason.NULL, "null: None"),
    (b'{"text": 5}', Reason.NOT_TEXT, "not text: 5"),
    (b'{"text": ["a"]}', Reason.NOT_TEXT, "not text: ['a']"),
    (
        b'{"text": "long enough before it \\ud800 after"}',
        Reason.LONE_SURROGATE,
        "lone surrogate: 'ng enough before it ",
    ),
    (b'{"text": "\xff"}', Reason.NOT_UTF8, 'not utf8: b\'{"text": "\\xff"}'),
    (b'{"text": "a", "other": "\xed\xa0\x80"}', Reason.NOT_UTF8, "not utf8: b'"),
    (b"{", Reason.NOT_JSON, "not json: Expecting property name"),
    (b'{"text": "cut of', Reason.NOT_JSON, "not json: Unterminated string"),
    (b"text", Reason.NOT_JSON, "not json: Expecting value in b'text"),
    (b'{"text": "a\tb"}', Reason.NOT_JSON, "not json: Invalid control character"),
    (b'{"text": ' + b"[" * 100_000, Reason.NOT_JSON, "not json: "),
    (b'"text"', Reason.NOT_JSON, "not json: 'text' is not an object"),
    (b'{"body": "a"}', Reason.NO_COLUMN, "no column: no column 'text', only ['body']"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


class TestLines:
    @pytest.mark.parametrize(("line", "reason", "found"), BAD_LINES)
    def test_a_bad_line_costs_itself_alone(self, folder: Folder, line: bytes, reason: Reason, found: str) -> None:
        data = b"\n".join([b'{"text": "good"}', b"", line, b'{"text": "fine"}'])
        assert folder.texts("a.jsonl", data) == ["good", "fine"]
        assert folder.rows.stats() == {"empty_rows": 0, "bad_rows": 1, f"bad_rows_{reason}": 1}
        (example,) = folder.rows.examples
        assert (example.url, example.place) == (f"{folder.path}/a.jsonl", "line 3")
        assert str(example.bad).startswith(found)

    @pytest.mark.parametrize(("line", "reason", "found"), BAD_LINES)
    def test_bad_lines_may_come_first(self, folder: Folder, line: bytes, reason: Reason, found: str) -> None:
        assert folder.texts("a.jsonl", line + b'\n{"text": "good"}\n') == ["good"]
        assert folder.rows.counts == {reason: 1}

    @pytest.mark.parametrize(("line", "reason", "found"), BAD_LINES)
    def test_the_first_one_is_fatal_if_asked(self, folder: Folder, line: bytes, reason: Reason, found: str) -> None:
        with pytest.raises(CorpusError) as caught:
            folder.texts("a.jsonl", b'{"text": "good"}\n' + line + b"\n" + line, fatal=True)
        text = str(caught.value)
        assert text.startswith(f"{folder.path}/a.jsonl: line 2 is {found}")
        assert text.endswith("; repair the row, or set corpus.bad_rows: report to leave bad rows out and count them")
        assert len(text) < 400

    @reproducible
    @given(lines=st.lists(st.sampled_from([b'{"text": "good"}', b'{"text": ""}', *(line for line, _, _ in BAD_LINES)])))
    def test_every_line_is_counted_once(self, tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
        folder = Folder(tmp_path_factory.mktemp("lines"))
        found = folder.texts("a.jsonl", b"\n".join([b'{"text": "good"}', *lines]))
        assert found == ["good"] * (1 + lines.count(b'{"text": "good"}'))
        assert len(lines) + 1 == len(found) + folder.rows.empty + folder.rows.counts.total()


class TestTables:
    @pytest.mark.parametrize("name", TABLES)
    def test_nulls(self, folder: Folder, name: str) -> None:
        assert folder.texts(name, TABLES[name](["a", None, "", "b"])) == ["a", "b"]
        assert folder.rows.stats() == {"empty_rows": 1, "bad_rows": 1, "bad_rows_null": 1}
        assert str(folder.rows.examples[0]) == "row 1 is null: None"

    @pytest.mark.parametrize("name", TABLES)
    def test_a_column_of_something_else(self, folder: Folder, name: str) -> None:
        assert folder.texts(name, TABLES[name]([1, 2]), text_column="other") == []
        assert folder.rows.counts == {Reason.NOT_TEXT: 2}


class TestTextFiles:
    def test_one_that_is_not_utf_8(self, folder: Folder) -> None:
        assert folder.texts("a.txt", "déjà".encode("latin-1")) == []
        assert str(folder.rows.examples[0]) == r"row 0 is not utf8: b'd\xe9j\xe0'"

    def test_an_empty_one(self, folder: Folder) -> None:
        assert folder.texts("a.txt", b"") == []
        assert folder.rows.stats() == {"empty_rows": 1, "bad_rows": 0}


class TestReport:
    def test_one_warning_a_file_with_examples(self, folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
        folder.texts("a.jsonl", as_jsonl(["good", 1, 2, 3, 4, "", "", None]))
        caplog.set_level(logging.INFO)
        folder.texts("a.jsonl", as_jsonl(["good", 1, 2, 3, 4, "", "", None]))
        *_, warning, information = [record.getMessage() for record in caplog.records]
        assert warning == (
            "a.jsonl: left out 5 bad row(s) (4 not text, 1 null): line 2 is not text: 1; line 3 is not text: 2; "
            "line 4 is not text: 3; line 8 is null: None"
        )
        assert information == "a.jsonl: left out 2 empty row(s)"

    @pytest.mark.parametrize("name", FORMATS)
    def test_a_good_file_says_nothing(self, folder: Folder, name: str, caplog: pytest.LogCaptureFixture) -> None:
        folder.texts(name, FORMATS[name](["good"]))
        assert caplog.records == []

    def test_few_examples_of_each_reason_are_kept(self) -> None:
        rows = BadRows()
        for number in range(100):
            rows.add(BadRow("u", f"line {number}", Bad(Reason.NULL if number % 10 else Reason.NOT_TEXT, "x")))
        assert rows.counts == {Reason.NULL: 90, Reason.NOT_TEXT: 10}
        assert [row.place for row in rows.examples] == [f"line {number}" for number in (0, 1, 2, 3, 10, 20)]
        assert EXAMPLES_OF_A_REASON == 3

    def test_an_example_is_short_however_long_the_row(self, folder: Folder) -> None:
        rows = [[["x" * 10**4] * 100], {str(key): "y" * 10**4 for key in range(50)}, "\ud800" * 10**5, 10**4000]
        folder.texts("a.jsonl", as_jsonl([*rows, "good"]) + b'"' + b"z" * 10**5)
        assert folder.rows.counts.total() == 5
        assert all(len(str(row)) < 500 for row in folder.rows.examples)

    def test_the_stats_are_plain_numbers(self, folder: Folder) -> None:
        folder.texts("a.jsonl", as_jsonl(["good", None, ""]))
        assert json.loads(json.dumps(folder.rows.stats())) == {"empty_rows": 1, "bad_rows": 1, "bad_rows_null": 1}
