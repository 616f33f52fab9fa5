"""A teacher's bits per byte: against forward passes over the text that the students are measured on."""

import json
import logging
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from flow_inputs import FlowInputs, write_model
from real_tokenizers import write_mistral_v1
from transformers import AutoModelForCausalLM

from flows.cache_teacher import cache_teacher
from flows.config import RunConfig
from flows.prepare import prepare
from flows.resolve import load_tokenizer
from flows.runs import RunData
from flows.summary import teacher_bits_per_byte

pytestmark = pytest.mark.usefixtures("prefect_server")

STUDENT_LENGTH = 130  # in tokens: a few held-out windows are longer


def with_bos(inputs: FlowInputs, _folder: Path) -> Path:
    return inputs.root / "teacher"


def without_bos(inputs: FlowInputs, folder: Path) -> Path:
    """Does not predict the first token of a text."""
    teacher = shutil.copytree(inputs.root / "teacher", folder)
    definition = json.loads((teacher / "tokenizer.json").read_text())
    (teacher / "tokenizer.json").write_text(json.dumps(definition | {"post_processor": None}))
    return teacher


def with_dummy_prefix(_inputs: FlowInputs, folder: Path) -> Path:
    """Predicts a space that the text does not have."""
    write_model(write_mistral_v1(folder), 32_000)
    return folder


def data_of(config: RunConfig) -> RunData:
    return RunData(prepare(config), cache_teacher(config), {})


def windows_of(data: RunData) -> list[dict[str, Any]]:
    """The held-out windows with the token ids of both sides."""
    rows = []
    for shard in range(len(data.prepared.windows)):
        windows = data.prepared.windows.table(shard).to_pylist()
        students = data.prepared.student_tokens.table(shard)["ids"].to_pylist()
        teachers = data.prepared.teachers[0].tokens.table(shard)["ids"].to_pylist()
        for window, student, teacher in zip(windows, students, teachers, strict=True):
            rows.append({"text": window["text"], "student": student, "teacher": teacher, "split": window["split"]})
    return [row for row in rows if row["split"] == "heldout"]


def nats_of(model: Any, ids: list[int]) -> float:
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0, :-1]
    return torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="sum").item()


@pytest.mark.parametrize(("make_teacher", "max_length"), [(with_bos, 85), (without_bos, 85), (with_dummy_prefix, 52)])
def test_the_score_is_that_of_the_predicted_text_of_the_students_windows(
    inputs: FlowInputs,
    tmp_path: Path,
    make_teacher: Callable[[FlowInputs, Path], Path],
    max_length: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = make_teacher(inputs, tmp_path / "teacher")
    student = inputs.sections(tmp_path)["student"] | {"max_length": STUDENT_LENGTH}
    teacher = inputs.teacher(model=str(folder), max_length=max_length)
    config = inputs.config(tmp_path / "workspace", student=student, teachers=[teacher])
    data = data_of(config)

    rows = windows_of(data)
    students = [row for row in rows if len(row["student"]) <= STUDENT_LENGTH]
    common = [row for row in students if len(row["teacher"]) <= max_length]
    assert 0 < len(common) < len(students) < len(rows)
    spelled = load_tokenizer(str(folder)).vocabulary.token_bytes
    size = sum(len(row["text"].encode()) - len(spelled(row["teacher"][0])) for row in common)
    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    nats = sum(nats_of(model, row["teacher"]) for row in common)

    caplog.set_level(logging.INFO)
    found = teacher_bits_per_byte(config, data, config.teachers[0])
    assert found == pytest.approx(nats / math.log(2) / size, rel=1e-4)
    told = f"teacher llama is measured on {len(common)} of the students' {len(students)} held-out windows"
    assert told in caplog.text


def test_without_held_out_windows_there_is_no_score(inputs: FlowInputs, tmp_path: Path) -> None:
    config = inputs.config(tmp_path)
    data = data_of(config)
    student = config.student.model_copy(update={"max_length": 1})  # shorter than any held-out window
    short = config.model_copy(update={"student": student})
    assert math.isnan(teacher_bits_per_byte(short, data, config.teachers[0]))
