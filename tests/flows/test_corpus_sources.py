"""Sources of a corpus: which files are whose."""

import json
from pathlib import Path
from typing import Any

import pytest

from flows.corpus import BadRows, find_sources, read_documents
from flows.corpus_config import CorpusConfig
from flows.errors import CorpusError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    row = {"text": "a text", "body": "a body", "chat": [{"role": "user", "content": "hello"}]}
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text(json.dumps(row))
    return tmp_path


def corpus(folder: Path, *parts: dict[str, Any]) -> CorpusConfig:
    """Sources named `first` and `second`, whose file is in the folder."""
    named = zip(("first", "second"), parts, strict=False)
    return CorpusConfig.model_validate(
        {"sources": [{"name": name, **part, "files": [f"{folder}/{part['files']}"]} for name, part in named]}
    )


def test_the_short_form_is_one_source(folder: Path) -> None:
    (file,) = find_sources(CorpusConfig(files=(f"{folder}/a.jsonl",), text_column="body"))
    assert (file.source.name, file.source.weight, file.source.teachers) == ("corpus", 1.0, None)
    assert [document.text for document in read_documents(file, BadRows())] == ["a body"]


def test_each_file_carries_its_source(folder: Path) -> None:
    found = find_sources(
        corpus(folder, {"files": "a.jsonl", "weight": 2.0}, {"files": "b.jsonl", "messages_column": "chat"})
    )
    assert [(file.name, file.source.name, file.source.weight) for file in found] == [
        ("a.jsonl", "first", 2.0),
        ("b.jsonl", "second", 1.0),
    ]
    documents = [document for file in found for document in read_documents(file, BadRows())]
    assert (documents[0].text, documents[0].messages) == ("a text", None)
    assert (documents[1].text, documents[1].messages) == (None, ({"role": "user", "content": "hello"},))


def test_two_sources_may_read_different_columns_of_a_file(folder: Path) -> None:
    found = find_sources(corpus(folder, {"files": "a.jsonl"}, {"files": "a.jsonl", "text_column": "body"}))
    assert [d.text for file in found for d in read_documents(file, BadRows())] == ["a text", "a body"]


def test_a_text_belongs_to_one_source(folder: Path) -> None:
    with pytest.raises(CorpusError) as caught:
        find_sources(corpus(folder, {"files": "*.jsonl"}, {"files": "b.jsonl"}))
    assert str(caught.value) == (
        f"corpus.sources.1: {folder}/b.jsonl belongs to source 'first' already, and one text cannot have two weights: "
        "remove it from there or from source 'second'"
    )


def test_a_pattern_without_match_names_its_source(folder: Path) -> None:
    with pytest.raises(CorpusError, match=r"^corpus\.sources\.1\.files: .*/no\.jsonl matches no file; check the path"):
        find_sources(corpus(folder, {"files": "a.jsonl"}, {"files": "no.jsonl"}))


def test_a_missing_column_names_the_source(folder: Path) -> None:
    (file,) = find_sources(corpus(folder, {"files": "a.jsonl", "text_column": "titel"}))
    with pytest.raises(CorpusError) as caught:
        list(read_documents(file, BadRows()))
    assert str(caught.value) == (
        f"{folder}/a.jsonl has no column 'titel', only ['body', 'chat', 'text']: set the column of source 'first'"
    )
