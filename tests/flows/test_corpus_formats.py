"""Reading corpus files of every format, whole and damaged; what fails names the file and what to do."""

import gzip
import json
import lzma
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus_files import COMPRESS, FORMATS, TABLES, TEXTS, Folder, as_arrow, as_arrow_stream, as_jsonl, as_parquet
from fakes import reproducible
from hypothesis import given
from hypothesis import strategies as st

from flows.corpus import jsonl, tables
from flows.corpus.bad_rows import Bad
from flows.errors import CorpusError


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture(scope="module")
def any_folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(tmp_path_factory.mktemp("random"))


class TestWhole:
    @pytest.mark.parametrize("name", FORMATS)
    def test_documents_come_as_they_were_written(self, folder: Folder, name: str) -> None:
        assert folder.texts(name, FORMATS[name](TEXTS), fatal=True) == TEXTS

    @pytest.mark.parametrize("name", FORMATS)
    @reproducible
    @given(texts=st.lists(st.text(st.characters(codec="utf-8"), min_size=1), max_size=5))
    def test_any_text_comes_back(self, any_folder: Folder, name: str, texts: list[str]) -> None:
        assert any_folder.texts(name, FORMATS[name](pa.array(texts, pa.string()).to_pylist()), fatal=True) == texts

    @reproducible
    @given(text=st.text(st.characters(codec="utf-8"), min_size=1), ending=st.sampled_from(["", *COMPRESS]))
    def test_any_text_file_comes_back(self, any_folder: Folder, text: str, ending: str) -> None:
        data = text.encode()
        assert any_folder.texts(f"a.txt{ending}", COMPRESS[ending](data) if ending else data, fatal=True) == [text]

    @pytest.mark.parametrize("ending", COMPRESS)
    def test_text_formats_may_be_compressed(self, folder: Folder, ending: str) -> None:
        assert folder.texts(f"a.jsonl{ending}", COMPRESS[ending](as_jsonl(TEXTS))) == TEXTS
        assert folder.texts(f"a.md{ending}", COMPRESS[ending]("é\n".encode())) == ["é\n"]

    @pytest.mark.parametrize("ending", COMPRESS)
    def test_compressed_parts_may_follow_each_other(self, folder: Folder, ending: str) -> None:
        parts = (COMPRESS[ending](as_jsonl(part)) for part in (TEXTS[:3], TEXTS[3:5]))
        assert folder.texts(f"a.jsonl{ending}", b"".join(parts)) == TEXTS[:5]

    @pytest.mark.parametrize("ending", [".txt", ".md"])
    def test_a_text_file_is_one_document(self, folder: Folder, ending: str) -> None:
        assert folder.texts(f"a{ending}", "one\r\n\n中".encode()) == ["one\r\n\n中"]
        assert folder.texts(f"b{ending}", b"x") == ["x"]

    @pytest.mark.parametrize("name", FORMATS)
    def test_another_column(self, folder: Folder, name: str) -> None:
        assert folder.texts(name, FORMATS[name](["x"], "body"), text_column="body") == ["x"]

    def test_lines_of_json_need_not_be_tidy(self, folder: Folder) -> None:
        data = b'\xef\xbb\xbf{"text": "a"}\r\n\n  \n {"text": "b", "x": NaN}\n{"text": "c", "x": "\\ud800"}'
        assert folder.texts("a.jsonl", data, fatal=True) == ["a", "b", "c"]

    @pytest.mark.parametrize("name", FORMATS)
    def test_a_file_without_rows(self, folder: Folder, name: str) -> None:
        assert folder.texts(name, FORMATS[name](pa.array([], pa.string()))) == []


KINDS = [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view()]


class TestTables:
    @pytest.mark.parametrize("name", TABLES)
    @pytest.mark.parametrize("kind", [*KINDS, pa.dictionary(pa.int32(), pa.string())], ids=str)
    def test_every_type_of_text_column(self, folder: Folder, name: str, kind: pa.DataType) -> None:
        texts = ["one", "zwei 中", None, "a longer text than a view keeps inline", "one"] * 300
        encoded = [text and text.encode() for text in texts]
        column = pa.array(texts, kind) if pa.types.is_dictionary(kind) else pa.array(encoded, pa.binary()).cast(kind)
        assert folder.texts(name, TABLES[name](column)) == [text for text in texts if text]
        assert folder.rows.stats() == {"empty_rows": 0, "bad_rows": 300, "bad_rows_null": 300}

    @pytest.mark.parametrize("name", TABLES)
    @pytest.mark.parametrize("kind", [*KINDS, pa.dictionary(pa.int32(), pa.string())], ids=str)
    def test_a_text_that_is_not_utf_8_costs_itself_alone(self, folder: Folder, name: str, kind: pa.DataType) -> None:
        column = not_utf8(["good", b"b\xffd", "", None, "fine"], kind)
        assert folder.texts(name, TABLES[name](column)) == ["good", "fine"]
        assert folder.rows.stats() == {"empty_rows": 1, "bad_rows": 2, "bad_rows_null": 1, "bad_rows_not_utf8": 1}
        assert str(folder.rows.examples[0]) == r"row 1 is not utf8: b'b\xffd'"

    @pytest.mark.parametrize("name", ["a.arrow", "cache.arrow"])
    @pytest.mark.parametrize("kind", ["text", "chat", "dictionary"])
    def test_offsets_that_lead_out_of_the_file_are_damage(self, folder: Folder, name: str, kind: str) -> None:
        texts = pa.Array.from_buffers(
            pa.string(),
            3,
            [None, pa.py_buffer(np.array([0, 10**8, 2, 3], np.int32)), pa.py_buffer(b"abc")],
        )
        chats = pa.ListArray.from_arrays([0, 1, 2, 3], pa.StructArray.from_arrays([texts, texts], ["role", "content"]))
        dictionary = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2], pa.int32()), texts)
        data = TABLES[name]({"text": texts, "chat": chats, "dictionary": dictionary}[kind], kind)
        with pytest.raises(CorpusError, match=r"cannot read .*a.*: .*out of bounds"):
            folder.documents(name, data, **({"messages_column": kind} if kind == "chat" else {"text_column": kind}))

    def test_a_column_that_is_there_twice(self, folder: Folder) -> None:
        sink = pa.BufferOutputStream()
        table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        with pytest.raises(CorpusError, match=r"a\.arrow has more than one column 'text', only \['text', 'text'\]"):
            folder.texts("a.arrow", sink.getvalue().to_pybytes())

    def test_a_name_with_a_dot_and_nested_columns_beside_it(self, folder: Folder) -> None:
        table = pa.table({"a": [{"b": "nested"}], "a.b": ["dotted"], "ab": ["other"]})
        pq.write_table(table, folder.path / "in.parquet")
        data = (folder.path / "in.parquet").read_bytes()
        assert folder.texts("a.parquet", data, text_column="a.b") == ["dotted"]

    @pytest.mark.parametrize("size", [1, 100, 10**9])
    @pytest.mark.parametrize("name", TABLES)
    def test_texts_of_any_size_are_decoded_a_few_at_a_time(
        self, folder: Folder, name: str, size: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        decoded = []
        monkeypatch.setattr(tables, "BATCH_BYTES", size)
        monkeypatch.setattr(tables, "values", lambda array: decoded.append(array.nbytes) or array.to_pylist())
        assert folder.texts(name, TABLES[name](TEXTS)) == TEXTS
        assert max(decoded) <= max(2 * size, 200)


def not_utf8(values: list[str | bytes | None], kind: pa.DataType) -> pa.Array:
    """An array that says it is text and holds bytes that are not."""
    encoded = pa.array([value.encode() if isinstance(value, str) else value for value in values], pa.binary())
    if pa.types.is_dictionary(kind):
        indices = [index if value is not None else None for index, value in enumerate(values)]
        words = not_utf8([value or "" for value in values], pa.string())
        return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), words)
    its_bytes = {
        pa.string(): pa.binary(),
        pa.large_string(): pa.large_binary(),
        pa.string_view(): pa.binary_view(),
    }
    return encoded.cast(its_bytes.get(kind, kind)).view(kind)


class TestJson:
    @reproducible
    @given(
        value=st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(2**63), 2**63 - 1)
            | st.floats()
            | st.text(st.characters(codec=None)),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        ),
        ascii_only=st.booleans(),
    )
    def test_the_fast_parser_gives_what_the_exact_one_gives(self, value: Any, ascii_only: bool) -> None:
        line = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
        assert repr(jsonl.parse_fast(line)) == repr(jsonl.parse_exactly(line))

    @reproducible
    @given(line=st.binary() | st.text().map(str.encode) | st.builds(bytes.join, st.just(b'"'), st.lists(st.binary())))
    def test_they_refuse_the_same_lines(self, line: bytes) -> None:
        fast, exact = jsonl.parse_fast(line), jsonl.parse_exactly(line)
        assert isinstance(fast, Bad) == isinstance(exact, Bad)

    def test_numbers_in_chats_keep_their_digits(self, folder: Folder) -> None:
        call = {"function": {"name": "f", "arguments": {"id": 2**80 + 1}}}
        chat = [{"role": "assistant", "content": None, "tool_calls": [call]}]
        (document,) = folder.documents("a.jsonl", as_jsonl([chat], "chat"), messages_column="chat")
        assert document.messages == (chat[0],)


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def garbled(data: bytes) -> bytes:
    """A few bytes in the first third are overwritten."""
    middle = len(data) // 3
    return data[:middle] + b"\xff" * 20 + data[middle + 20 :]


class TestDamaged:
    @pytest.mark.parametrize(
        ("name", "data"),
        [
            ("half.parquet", half(as_parquet(TEXTS))),
            ("end.parquet", as_parquet(TEXTS)[:-9]),
            ("garbled.parquet", garbled(as_parquet(TEXTS))),
            ("no.parquet", b"text"),
            ("empty.parquet", b""),
            ("arrow.parquet", as_arrow(TEXTS)),
            ("half.arrow", half(as_arrow(TEXTS))),
            ("half_stream.arrow", half(as_arrow_stream(TEXTS))),
            ("no.arrow", b"text"),
            ("empty.arrow", b""),
            ("empty.feather", b""),
            ("parquet.arrow", as_parquet(TEXTS)),
            *((f"half.jsonl{ending}", half(compress(as_jsonl(TEXTS)))) for ending, compress in COMPRESS.items()),
            *((f"no.txt{ending}", b"plain text, not compressed") for ending in COMPRESS),
            ("garbled.txt.gz", garbled(gzip.compress(as_jsonl(TEXTS)))),
            ("garbled.txt.xz", garbled(lzma.compress(as_jsonl(TEXTS)))),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_a_file_that_is_not_what_its_name_says(self, folder: Folder, name: str, data: bytes) -> None:
        with pytest.raises(CorpusError) as caught:
            folder.texts(name, data)
        text = str(caught.value)
        assert text.startswith(f"cannot read {folder.path / name}: ")
        assert text.endswith("; repair the file or leave it out of the corpus")

    @pytest.mark.parametrize("name", TABLES)
    @reproducible
    @given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255))
    def test_one_wrong_byte_in_a_table_never_ends_the_process(
        self, any_folder: Folder, name: str, place: float, byte: int
    ) -> None:
        data = bytearray(TABLES[name](TEXTS[:20]))
        data[int(place * len(data))] = byte
        with suppress(CorpusError):
            read = any_folder.texts(name, bytes(data))
            assert len(read) + any_folder.rows.empty + any_folder.rows.counts.total() <= 20

    def test_a_name_of_a_column_that_is_not_utf_8(self, folder: Folder) -> None:
        data = as_arrow_stream(["a"]).replace(b"other", b"oth\xffr")
        with pytest.raises(CorpusError, match=r"cannot read .*a\.arrow: 'utf-8' codec"):
            folder.texts("a.arrow", data)

    @pytest.mark.parametrize("name", FORMATS)
    def test_a_missing_column(self, folder: Folder, name: str) -> None:
        with pytest.raises(CorpusError) as caught:
            folder.texts(name, FORMATS[name](["a"]), text_column="body")
        assert str(caught.value) == (
            f"{folder.path / name} has no column 'body', only ['other', 'text']: set the column of source 'corpus'"
        )

    @pytest.mark.parametrize(
        ("data", "found"),
        [
            (as_parquet(TEXTS), "line 1 is not utf8: b'"),
            (as_arrow(TEXTS), "line 1 is not utf8: b'ARROW1"),
            (gzip.compress(as_jsonl(TEXTS)), r"line 1 is not utf8: b'\x1f\x8b"),
            ("\n".join(TEXTS).encode(), "line 1 is not json: Expecting value in b'document 0"),
            (json.dumps([{"text": "a"}], indent=1).encode(), "line 1 is not json: Expecting value in b'[\\n'"),
            (as_jsonl(TEXTS).decode().encode("utf-16"), r"line 1 is not utf8: b'\xff\xfe{"),
            (b"1\n2\n", "line 1 is not json: 1 is not an object"),
        ],
        ids=["parquet", "arrow", "gzip", "text", "one-list", "utf-16", "numbers"],
    )
    def test_a_file_that_is_not_jsonl(self, folder: Folder, data: bytes, found: str) -> None:
        with pytest.raises(CorpusError) as caught:
            folder.texts("a.jsonl", data)
        text = str(caught.value)
        assert text.startswith(f"{folder.path}/a.jsonl is not JSONL, no line holds a JSON object: {found}")
        assert text.endswith("; repair the file or leave it out of the corpus")

    def test_it_is_found_out_long_before_the_end(self, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[bytes] = []
        parse: Callable[[bytes], Any] = jsonl.parse_fast
        monkeypatch.setattr(jsonl, "parse_fast", lambda line: seen.append(line) or parse(line))
        with pytest.raises(CorpusError, match="is not JSONL"):
            folder.texts("a.jsonl", b"{\n" * (2 * jsonl.PROBED_LINES))
        assert len(seen) == jsonl.PROBED_LINES
