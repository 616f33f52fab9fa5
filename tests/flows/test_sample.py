"""The sample of a corpus: little of a large one, all of a small one, and the same every time."""

import json
from pathlib import Path
from typing import Any

from flow_inputs import FlowInputs, write_corpus

from flows.config import RunConfig
from flows.corpus.sample import _CHARACTERS, _FILES, _LONGEST, sample_texts


def config_of(inputs: FlowInputs, folder: Path, **keys: Any) -> RunConfig:
    return inputs.config(folder / "workspace", corpus={"files": [str(folder / "*.jsonl")]} | keys)


def test_a_small_corpus_is_all_there(inputs: FlowInputs, tmp_path: Path) -> None:
    write_corpus(tmp_path / "a.jsonl", ["one", "two"])
    write_corpus(tmp_path / "b.jsonl", ["three", "four"])
    assert sample_texts(config_of(inputs, tmp_path), "llama") == ["one", "two", "three", "four"]


def test_a_large_one_is_sampled_evenly_and_long_documents_are_cut(inputs: FlowInputs, tmp_path: Path) -> None:
    files = 2 * _FILES + 1
    for index in range(files):
        write_corpus(tmp_path / f"{index:03}.jsonl", [f"{index} {letter * 2 * _LONGEST}" for letter in "abcdef"])
    texts = sample_texts(config_of(inputs, tmp_path), "llama")
    numbers = [int(text.split()[0]) for text in texts]
    assert sorted(set(numbers)) == list(range(0, files, 3))
    assert 0.9 * _CHARACTERS <= sum(map(len, texts)) <= _CHARACTERS
    assert max(map(len, texts)) == _LONGEST


def test_it_is_of_the_sources_that_a_teacher_reads(inputs: FlowInputs, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_corpus(tmp_path / f"{name}.jsonl", [name])
    sources = [{"name": name, "files": [str(tmp_path / f"{name}.jsonl")]} for name in ("a", "b")]
    sources[1]["teachers"] = ["other"]
    teachers = [inputs.teacher(), inputs.teacher(name="other")]
    config = inputs.config(tmp_path / "workspace", corpus={"sources": sources}, teachers=teachers)
    assert (sample_texts(config, "llama"), sample_texts(config, "other")) == (["a"], ["a", "b"])


def test_of_chats_it_is_what_is_said(inputs: FlowInputs, tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "How?"}, {"role": "assistant", "content": None, "tool_calls": []}]
    chat += [{"role": "assistant", "content": "So."}]
    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": chat}) + "\n")
    assert sample_texts(config_of(inputs, tmp_path, messages_column="messages"), "llama") == ["How?\n\nSo."]
