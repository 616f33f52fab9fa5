"""A model that reads nothing of what was prepared is one error that says why."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chat_templates import CHATML, STRICT
from flow_inputs import FlowInputs, write_corpus

from flows.config import RunConfig
from flows.prepare import Prepared, alignment_rows, prepare
from flows.read_windows import require_read_windows
from xtoken_core.models import ModelError

LIMIT = 256


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("read") / "workspace"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Documents of one window each, none of which is short."""
    path = tmp_path_factory.mktemp("corpus") / "texts.jsonl"
    write_corpus(path, [f"Document {number} is made of so many words." * 2 for number in range(6)])
    return {"files": [str(path)], "holdout": 0}


@pytest.fixture(scope="module")
def prepared(inputs: FlowInputs, workspace: Path, corpus: dict[str, Any], prefect_server: str) -> Prepared:
    return prepare(inputs.config(workspace, corpus=corpus))


@pytest.fixture
def config(inputs: FlowInputs, workspace: Path, corpus: dict[str, Any]) -> Callable[..., RunConfig]:
    """With other limits."""

    def limited(student: int = LIMIT, teacher: int = LIMIT) -> RunConfig:
        ours = {"tokenizer": str(inputs.root / "student"), "max_length": student}
        return inputs.config(workspace, corpus=corpus, student=ours, teachers=[inputs.teacher(max_length=teacher)])

    return limited


def shortest(prepared: Prepared, column: str) -> int:
    table = prepared.teachers[0].alignments
    return min(len(ids) for index in range(len(table)) for ids in table.table(index)[column].to_pylist())


def test_models_that_read_something(prepared: Prepared, config: Callable[..., RunConfig]) -> None:
    require_read_windows(config(), prepared)
    require_read_windows(config(student=shortest(prepared, "student_ids")), prepared)


@pytest.mark.parametrize(("who", "name", "key"), [("student", "the student", "student"), ("teacher", "", "teachers.0")])
def test_windows_that_are_all_too_long(
    prepared: Prepared, config: Callable[..., RunConfig], who: str, name: str, key: str
) -> None:
    least, rows = shortest(prepared, f"{who}_ids"), prepared.windows.rows
    with pytest.raises(ModelError) as caught:
        require_read_windows(config(**{who: 2}), prepared)
    assert str(caught.value) == (
        f"{name or 'teacher llama'} reads none of the {rows} windows: {rows} have more tokens than "
        f"{key}.max_length, 2: raise it to {least} or more, or lower windows.max_bytes"
    )
    require_read_windows(config(**{who: shortest(prepared, f"{who}_ids")}), prepared)


def write_chats(folder: Path, inputs: FlowInputs, chats: list[Any], template: str) -> dict[str, Any]:
    """Sections of a config whose teacher has this template."""
    for name, own in (("student", CHATML), ("teacher", template)):
        shutil.copytree(inputs.root / name, folder / name)
        (folder / name / "chat_template.jinja").write_text(own)
    (folder / "chats.jsonl").write_text("\n".join(json.dumps({"messages": chat}) for chat in chats))
    return {
        "student": {"tokenizer": str(folder / "student")},
        "teachers": [{"name": "strict", "tokenizer": str(folder / "teacher")}],
        "corpus": {"files": [str(folder / "chats.jsonl")], "messages_column": "messages", "holdout": 0},
    }


def test_chats_that_are_all_refused(inputs: FlowInputs, tmp_path: Path, prefect_server: str) -> None:
    odd = [[{"role": "assistant", "content": f"I begin {number}."}] for number in range(3)]
    fine = [[{"role": "user", "content": "Begin."}, {"role": "assistant", "content": "Done."}]]
    sections = write_chats(tmp_path, inputs, [*odd, *fine], STRICT)
    some = inputs.config(tmp_path / "workspace", **sections)
    prepared = prepare(some)
    require_read_windows(some, prepared)
    (row,) = alignment_rows(prepared)
    assert row["windows"] == len(fine)

    (tmp_path / "chats.jsonl").write_text("\n".join(json.dumps({"messages": chat}) for chat in odd))
    with pytest.raises(
        ModelError, match=r"teacher strict reads none of the 3 windows: 3 are chats that its chat templ"
    ):
        require_read_windows(some, prepare(some))


def test_the_table_of_alignments_says_what_its_share_is_of(prepared: Prepared) -> None:
    (row,) = alignment_rows(prepared)
    assert row["windows"] == prepared.windows.rows
    assert row["exact bytes"] == "100%"
