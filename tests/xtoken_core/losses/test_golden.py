"""Every recorded scenario: the loss, every metric and the gradient are those of the published implementation."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.golden import compare, run
from benchmarks.golden_scenarios import Case, GoldenError, Scenario, load_cases
from xtoken_core.losses.form import Impl

GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "loss"
CASES = load_cases(GOLDEN)


def scenarios() -> list[Any]:
    return [pytest.param(case, one, id=f"{case.name}-{one.scenario}") for case in CASES for one in case.scenarios]


@pytest.mark.parametrize("impl", ["fast", "reference"])
@pytest.mark.parametrize(("case", "scenario"), scenarios())
def test_loss_metrics_and_gradient_are_the_published_ones(case: Case, scenario: Scenario, impl: Impl) -> None:
    assert compare(case, scenario, impl).differing == ()


def test_every_recorded_scenario_is_compared() -> None:
    assert [len(case.scenarios) for case in CASES] == [27, 27, 16]


Change = Callable[[dict[str, Any], dict[str, torch.Tensor]], object]


def write_case(folder: Path, change: Change) -> Path:
    """A folder with the first two scenarios of a case after `change` was made to its file and tensors."""
    file, tensors = json.loads((GOLDEN / "case_1.json").read_text()), load_file(GOLDEN / "case_1.safetensors")
    file["scenarios"] = file["scenarios"][:2]
    change(file, tensors)
    (folder / "case_9.json").write_text(json.dumps(file))
    save_file(tensors, folder / "case_9.safetensors")
    return folder


def reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    run(folder, "fast")
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_folder_is_reported_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = reported(write_case(tmp_path, lambda file, tensors: None), capsys)
    assert (found["scenarios"], found["failed"], found["failures"]) == (2, 0, [])
    assert 0 < found["max_loss_error"] < 1e-5
    assert 0 < found["max_grad_error"] < 1e-5


def make_everything_differ(file: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    recorded = file["scenarios"][1]
    recorded["loss"] *= 2
    recorded["metrics"] |= {"proj_accuracy_t0": 0.9, "unheard_of": 1.0}
    tensors["grad_1"] *= 1.5


def test_what_differs_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = reported(write_case(tmp_path, make_everything_differ), capsys)
    assert found["failed"] == 1
    assert found["max_loss_error"] == pytest.approx(0.5)
    assert found["max_grad_error"] == pytest.approx(1 / 3, rel=1e-4)
    (failure,) = found["failures"]
    assert (failure["case"], failure["scenario"]) == ("case_9", 1)
    assert [text.split(":")[0] for text in failure["differing"]] == [
        "loss",
        "proj_accuracy_t0",
        "unheard_of",
        "gradient",
    ]


def test_a_gradient_that_is_nan_fails_and_leaves_no_largest_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = reported(write_case(tmp_path, lambda file, tensors: tensors["grad_0"].fill_(torch.nan)), capsys)
    assert (found["failed"], found["max_grad_error"]) == (1, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda file, _: file["scenarios"][1]["loss_config"].update(kl_wieght=1),
            "case_9.json.*1.loss_config.kl_wieght",
        ),
        (lambda file, _: file["scenarios"][0]["loss_config"].update(kd_loss_mode="max"), "'sum', 'select_teacher' or"),
        (lambda file, _: file["scenarios"][0].update(teachers=[]), "scenarios.0.teachers"),
        (lambda file, _: file.pop("teacher_vocab_size"), "teacher_vocab_size"),
        (lambda _, tensors: tensors.pop("grad_1"), "case_9.safetensors: these tensors are missing: grad_1"),
        (lambda _, tensors: tensors.update(grad_0=torch.zeros(2)), r"grad_0 is \[2\], student_logits \[3, 24, 61\]"),
        (
            lambda _, tensors: tensors["student_chunk_id"].fill_(8),
            "case_9, scenario 0: student_chunk holds the chunk id 8",
        ),
        (lambda _, tensors: tensors.update(sample_mask=torch.ones(4)), "case_9, scenario 0"),
    ],
)
def test_what_is_not_in_the_format_is_refused(tmp_path: Path, change: Change, message: str) -> None:
    folder = write_case(tmp_path, change)
    with pytest.raises(GoldenError, match=f"(?s){message}"):
        run(folder, "reference")


def test_a_folder_without_cases_or_tensors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GoldenError, match="not a folder with"):
        load_cases(tmp_path / "nowhere")
    (tmp_path / "case_1.json").write_bytes((GOLDEN / "case_1.json").read_bytes())
    with pytest.raises(GoldenError, match=r"case_1\.json.*No such file"):
        load_cases(tmp_path)
