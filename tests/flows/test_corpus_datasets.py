"""Datasets through the package `datasets`, from local folders in the layout of the hub."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from corpus_files import as_jsonl, as_parquet

from flows.corpus import BadRows, Reason, SourceFile, find_sources, read_documents
from flows.corpus_config import CorpusConfig
from flows.errors import CorpusError

TEXTS = [f"document {number}, 中文" for number in range(150)]
CHAT = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "yes"}]


CALLS = [
    [{"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}]
    for arguments in ({"a": 1}, {"a": "one", "b": [1, "x", None]})
]


def as_parquet_json(rows: list[Any], column: str) -> bytes:
    """As the package stores rows that differ in shape: a list of JSON texts that says that it is JSON."""
    texts = pa.array([json.dumps(message) for row in rows for message in row])
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    return as_parquet(pa.ListArray.from_arrays(offsets, pa.ExtensionArray.from_storage(pa.json_(), texts)), column)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_MODULES_CACHE", str(tmp_path / "modules"))


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "texts").mkdir()
    for name, texts in {"train-0": TEXTS[:70], "train-1": TEXTS[70:], "test": ["a test"]}.items():
        (tmp_path / "texts" / f"{name}.jsonl").write_bytes(as_jsonl(texts))
    return tmp_path / "texts"


def find(folder: Path, **keys: Any) -> SourceFile:
    (file,) = find_sources(CorpusConfig(dataset=str(folder), **keys))
    return file


def texts(file: SourceFile) -> list[str | None]:
    return [document.text for document in read_documents(file, BadRows(fatal=True))]


def test_the_documents_of_a_split_come_in_order(folder: Path) -> None:
    assert texts(find(folder)) == TEXTS
    assert find(folder).name == "texts"
    assert texts(find(folder, split="test")) == ["a test"]


def test_parquet_with_subsets(empty: Path) -> None:
    for subset in ("one", "two"):
        (empty / subset).mkdir()
        (empty / subset / "train.parquet").write_bytes(as_parquet([subset], "body"))
    configs = [{"config_name": subset, "data_files": f"{subset}/*.parquet"} for subset in ("one", "two")]
    (empty / "README.md").write_text(f"---\n{json.dumps({'configs': configs})}\n---\n")
    found = [find(empty, subset=subset, text_column="body") for subset in ("one", "two")]
    assert [texts(file) for file in found] == [["one"], ["two"]]
    assert found[0].digest != found[1].digest


@pytest.mark.parametrize("chats", [[CHAT], [CHAT, *CALLS]], ids=["one-shape", "shapes-that-differ"])
@pytest.mark.parametrize("pack", [as_jsonl, as_parquet_json])
def test_chats(empty: Path, chats: list[Any], pack: Any) -> None:
    name = "train.jsonl" if pack is as_jsonl else "train.parquet"
    (empty / name).write_bytes(pack(chats, "messages"))
    found = read_documents(find(empty, messages_column="messages"), BadRows(fatal=True))
    assert [document.messages for document in found] == [tuple(chat) for chat in chats]


def test_bad_rows_are_counted(empty: Path) -> None:
    (empty / "train.parquet").write_bytes(as_parquet(["good", None, "", "fine"]))
    rows = BadRows()
    assert [document.text for document in read_documents(find(empty), rows)] == ["good", "fine"]
    assert (rows.empty, rows.counts, rows.examples[0].place) == (1, {Reason.NULL: 1}, "row 1")


def test_the_digest_changes_with_the_files_of_the_split(folder: Path) -> None:
    first = find(folder)
    assert find(folder).digest == first.digest
    assert find(folder, split="test").digest != first.digest
    (folder / "train-1.jsonl").write_bytes(as_jsonl(["changed"]))
    os.utime(folder / "train-1.jsonl", (1, 1))
    assert find(folder).digest != first.digest
    with pytest.raises(CorpusError, match="has changed since this command began: run it again, or name a `revision`"):
        texts(first)


def test_a_missing_column(folder: Path) -> None:
    with pytest.raises(CorpusError) as caught:
        texts(find(folder, text_column="body"))
    assert str(caught.value) == (
        f"datasets://{folder} has no column 'body', only ['other', 'text']: set the column of source 'corpus'"
    )


@pytest.mark.parametrize(
    ("name", "keys"), [("no", {}), ("texts", {"split": "dev"}), ("texts", {"subset": "no"}), ("empty", {})]
)
def test_a_dataset_that_is_not_there(folder: Path, empty: Path, name: str, keys: dict[str, str]) -> None:
    with pytest.raises(CorpusError) as caught:
        find(folder.parent / name, **keys)
    text = str(caught.value)
    url = f"datasets://{folder.parent / name}" + "".join(f"?{key}={value}" for key, value in keys.items())
    assert text.startswith(f"corpus.dataset: cannot open {url}: ")
    assert text.endswith("; check the id, subset, split and revision, and for a private one the login")


def test_a_damaged_file(folder: Path) -> None:
    (folder / "train-1.jsonl").write_bytes(b"no JSON at all")
    with pytest.raises(
        CorpusError, match=r"^cannot read datasets://.*; repair the dataset or remove it from the corpus$"
    ):
        texts(find(folder))


def test_the_extra_is_named_where_it_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(CorpusError, match=r"^corpus\.dataset needs a package: .*; pip install 'xtoken\[datasets\]'$"):
        find(folder)
