"""The projection artifact: its files are a function of what its fingerprint names."""

from pathlib import Path

from flow_inputs import FlowInputs

from flows.resolve import tokenizer_of
from flows.stages.projections import build_projection_artifact


def test_what_a_config_calls_its_teacher_is_in_no_file(inputs: FlowInputs, tmp_path: Path) -> None:
    contents = []
    for name in ("elephant", "mouse"):
        config = inputs.config(tmp_path / name, teachers=[inputs.teacher(name=name)])
        student = tokenizer_of(config.student)
        teacher = tokenizer_of(config.teachers[0])
        artifact = build_projection_artifact(config, student, teacher, name)
        contents.append([(artifact.manifest.fingerprint, entry) for entry in artifact.manifest.files])
    assert contents[0] == contents[1]
