"""A wrong column: found before any work where the format tells, else when a source turns out to have no document."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus_files import as_arrow, as_arrow_stream, as_jsonl, as_parquet

from flows.corpus import BadRows, SourceFile, find_sources, read_documents, require_columns, require_documents
from flows.corpus_config import CorpusConfig
from flows.errors import CorpusError
from storage.windows import Reading


def read(file: SourceFile) -> Reading:
    bad_rows = BadRows()
    documents = len(list(read_documents(file, bad_rows)))
    return Reading(
        file=file.name,
        source=file.source.name,
        is_chat=False,
        windows=documents,
        documents=documents,
        bytes=0,
        empty=bad_rows.empty,
        bad_rows={str(reason): count for reason, count in bad_rows.counts.items()},
        examples=tuple(map(str, bad_rows.examples)),
    )


def require(**corpus: Any) -> None:
    config = CorpusConfig(**corpus)
    files = find_sources(config)
    require_documents(config, files, [read(file) for file in files])


CHAT = [{"content": "Hello", "role": "user"}]


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    path = tmp_path / "chats.jsonl"
    path.write_text("\n".join(json.dumps({"id": number, "messages": CHAT}) for number in range(3)))
    return path


def test_chats_that_are_read_as_texts(chats: Path) -> None:
    with pytest.raises(CorpusError) as caught:
        require(files=[str(chats)], text_column="messages")
    assert str(caught.value) == (
        f"corpus: no row of {chats} holds a text or chat: 3 not text (chats.jsonl: line 1 is not text: [{CHAT[0]}]); "
        "set corpus.text_column or corpus.messages_column, chats.jsonl has ['id', 'messages']"
    )
    require(files=[str(chats)], messages_column="messages")


def test_one_of_several_sources(chats: Path, tmp_path: Path) -> None:
    """The others have documents, so that the whole corpus is not empty."""
    pq.write_table(pa.table({"text": ["a", ""], "n": [1, 2], "none": ["", None]}), tmp_path / "t.parquet")
    texts = {"name": "texts", "files": [str(tmp_path / "t.parquet")]}
    good = {"name": "good", "files": [str(chats)], "messages_column": "messages"}
    require(sources=[good, texts])
    with pytest.raises(
        CorpusError, match=r"^corpus\.sources\.1: no row of .*t\.parquet holds .*: 1 empty, 1 null"
    ) as caught:
        require(sources=[good, texts | {"text_column": "none"}])
    assert str(caught.value).endswith(
        "set corpus.sources.1.text_column or corpus.sources.1.messages_column, t.parquet has ['n', 'none', 'text']"
    )


def test_files_without_columns(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff")
    (tmp_path / "b.txt").write_bytes(b"")
    with pytest.raises(
        CorpusError, match=r"no row of 2 files, from .*a\.txt on, .*: 1 empty, 1 not utf8 .*check them$"
    ):
        require(files=[str(tmp_path)])
    (tmp_path / "c.txt").write_text("a text")
    require(files=[str(tmp_path)])


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.parquet", as_parquet), ("a.arrow", as_arrow), ("b.arrow", as_arrow_stream), ("a.jsonl", as_jsonl)],
)
def test_a_column_that_is_not_there_is_found_in_the_first_file(tmp_path: Path, name: str, write: Any) -> None:
    (tmp_path / name).write_bytes(write(["some text"]))
    require_columns(find_sources(CorpusConfig(files=[str(tmp_path / name)])))
    with pytest.raises(CorpusError, match=r"no column 'content'.*'text'.*: set the column of source 'corpus'"):
        require_columns(find_sources(CorpusConfig(files=[str(tmp_path / name)], text_column="content")))


def test_a_damaged_first_file_is_found_too(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(CorpusError, match=r"cannot read .*a\.parquet: .*; repair the file"):
        require_columns(find_sources(CorpusConfig(files=[str(tmp_path / "a.parquet")])))
