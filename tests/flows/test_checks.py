"""What is asked before any work: by every flow, however it is started."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from flow_inputs import STUDENT_IDS, FlowInputs, write_model
from real_tokenizers import write_byte_bpe

from flows.cache_teacher import cache_teacher
from flows.checks import DISTILL, EVALUATE, PREPARE, run_checks
from flows.config import ConfigError, RunConfig
from flows.distill import distill
from flows.errors import CorpusError
from flows.evaluate import evaluate
from flows.prepare import prepare
from trainer.run import TrainerError
from xtoken_core.models import ModelError

POSITIONS = 512  # of the models in `FlowInputs`


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Where nothing may be written."""
    return tmp_path / "workspace"


@pytest.fixture
def checkpoint(inputs: FlowInputs, tmp_path: Path) -> Path:
    """A model with the student's tokenizer."""
    folder = shutil.copytree(inputs.root / "student", tmp_path / "checkpoint")
    write_model(folder, STUDENT_IDS)
    return folder


@pytest.mark.usefixtures("prefect_server")
class TestFlows:
    """The command line asks before it starts a flow, a deployment does not."""

    def test_prepare(self, inputs: FlowInputs, workspace: Path) -> None:
        without = {"name": "one", "tokenizer": str(inputs.root / "corpus")}
        with pytest.raises(ModelError, match=r"corpus holds no tokenizer\.json"):
            prepare(inputs.config(workspace, teachers=[without]))
        assert not workspace.exists()

    def test_cache_teacher(self, inputs: FlowInputs, workspace: Path) -> None:
        without = {"name": "one", "tokenizer": str(inputs.root / "teacher")}
        with pytest.raises(ModelError, match="teacher one has no `model`"):
            cache_teacher(inputs.config(workspace, teachers=[without]))
        assert not workspace.exists()

    def test_distill(self, inputs: FlowInputs, workspace: Path) -> None:
        with pytest.raises(CorpusError, match="matches no file"):
            distill(inputs.config(workspace, corpus={"files": ["no/such.jsonl"]}))
        assert not workspace.exists()

    def test_evaluate(self, inputs: FlowInputs, workspace: Path) -> None:
        with pytest.raises(ModelError, match="tiny/distilled/best holds no checkpoint: run `xtoken distill` first"):
            evaluate(inputs.config(workspace))
        assert not workspace.exists()


class TestPrepare:
    def test_a_workspace_that_is_a_file(self, inputs: FlowInputs, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.write_text("")
        for place in (file, file / "below"):
            with pytest.raises(ConfigError, match=f"workspace: {file} is a file: give a folder"):
                run_checks(inputs.config(place), PREPARE)

    def test_windows_longer_than_a_model_in_a_folder_reads(self, inputs: FlowInputs, workspace: Path) -> None:
        run_checks(inputs.config(workspace, teachers=[inputs.teacher(max_length=POSITIONS)]), PREPARE)
        with pytest.raises(ModelError, match=f"has {POSITIONS} positions.* set teachers.0.max_length to at most"):
            run_checks(inputs.config(workspace, teachers=[inputs.teacher(max_length=POSITIONS + 1)]), PREPARE)

    def test_direct_kl_of_another_tokenizer(self, inputs: FlowInputs, workspace: Path) -> None:
        """Also for logits that are averaged, which are those of direct_kl."""
        twin = {"name": "twin", "tokenizer": str(inputs.root / "student"), "loss": "direct_kl"}
        run_checks(inputs.config(workspace, teachers=[twin]), PREPARE)
        teachers = [twin, inputs.teacher(loss="direct_kl")]
        averaged = {"cache": {"top_k": 0}, "training": {"combine": {"mode": "averaged_logits"}}}
        for sections in ({}, averaged):
            config = inputs.config(workspace, teachers=teachers, **sections)
            with pytest.raises(
                ConfigError, match=r"teachers\.1\.loss direct_kl .* tokenizer of llama, .*/student: use"
            ):
                run_checks(config, PREPARE)
        assert not workspace.exists()

    def test_a_tokenizer_alone_sets_no_limit(self, inputs: FlowInputs, workspace: Path) -> None:
        alone = {"name": "t", "tokenizer": str(inputs.root / "teacher"), "max_length": POSITIONS + 1}
        run_checks(inputs.config(workspace, teachers=[alone]), PREPARE)


class TestDistill:
    def test_a_config_that_works(self, inputs: FlowInputs, workspace: Path) -> None:
        run_checks(inputs.config(workspace), DISTILL)
        assert not workspace.exists()

    def test_windows_longer_than_a_teacher_reads(self, inputs: FlowInputs, workspace: Path) -> None:
        longest = inputs.config(workspace, teachers=[inputs.teacher(max_length=POSITIONS)])
        run_checks(longest, DISTILL)
        second = inputs.teacher(name="second", max_length=POSITIONS + 1)
        with pytest.raises(ModelError, match=f"has {POSITIONS} positions.* set teachers.1.max_length to at most"):
            run_checks(inputs.config(workspace, teachers=[inputs.teacher(), second]), DISTILL)

    def test_windows_longer_than_the_student_reads(self, inputs: FlowInputs, workspace: Path) -> None:
        student = {"model": str(inputs.root / "teacher"), "max_length": POSITIONS + 1}
        with pytest.raises(ModelError, match=f"has {POSITIONS} positions.* set student.max_length to at most"):
            run_checks(inputs.config(workspace, student=student), DISTILL)

    def test_vocabularies_of_one_size_have_nothing_to_normalize(self, inputs: FlowInputs, workspace: Path) -> None:
        combine = {"training": {"combine": {"normalize_by_vocabulary": True}}}
        same = [inputs.teacher(name=name) for name in ("one", "two")]
        with pytest.raises(ConfigError, match=r"normalize_by_vocabulary .* all of them have [\d,]+ tokens: remove it"):
            run_checks(inputs.config(workspace, teachers=same, **combine), DISTILL)
        twin = inputs.teacher(name="twin", tokenizer=str(inputs.root / "student"))
        run_checks(inputs.config(workspace, teachers=[same[0], twin], **combine), DISTILL)

    def test_a_logger_that_is_not_installed(
        self, inputs: FlowInputs, workspace: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("trainer.loggers.find_spec", lambda name: None)
        config = inputs.config(workspace, training={"loggers": ["mlflow"]})
        with pytest.raises(TrainerError, match=r"'mlflow' .* not installed: pip install 'xtoken\[mlflow\]'"):
            run_checks(config, DISTILL)
        run_checks(config, PREPARE)


class TestEvaluate:
    def config(self, inputs: FlowInputs, workspace: Path, checkpoint: Path, **sections: Any) -> RunConfig:
        evaluation = {"checkpoint": str(checkpoint)} | sections.pop("evaluation", {})
        return inputs.config(workspace, evaluation=evaluation, **sections)

    def test_a_checkpoint_with_the_students_tokenizer(
        self, inputs: FlowInputs, workspace: Path, checkpoint: Path
    ) -> None:
        run_checks(self.config(inputs, workspace, checkpoint), EVALUATE)

    def test_a_checkpoint_with_another_tokenizer(self, inputs: FlowInputs, workspace: Path, checkpoint: Path) -> None:
        """Of the same size: every id has a row, and means something else."""
        write_byte_bpe(checkpoint, vocab_size=STUDENT_IDS)
        with pytest.raises(ModelError) as caught:
            run_checks(self.config(inputs, workspace, checkpoint), EVALUATE)
        assert str(caught.value) == (
            f"the tokenizer in {checkpoint} gives other token ids than the student's, {inputs.root}/student: the score "
            f"would be wrong; set student.tokenizer={checkpoint}, or evaluate a checkpoint of this student"
        )

    def test_a_checkpoint_without_a_tokenizer_is_taken_as_the_students(
        self, inputs: FlowInputs, workspace: Path, checkpoint: Path
    ) -> None:
        (checkpoint / "tokenizer.json").unlink()
        run_checks(self.config(inputs, workspace, checkpoint), EVALUATE)

    def test_a_checkpoint_that_does_not_read_windows_so_long(
        self, inputs: FlowInputs, workspace: Path, checkpoint: Path
    ) -> None:
        student = inputs.sections(workspace)["student"] | {"max_length": POSITIONS + 1}
        with pytest.raises(ModelError, match=r"set student\.max_length to at most"):
            run_checks(self.config(inputs, workspace, checkpoint, student=student), EVALUATE)

    def test_tasks_without_lm_eval(
        self, inputs: FlowInputs, workspace: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("flows.checks.find_spec", lambda name: None)
        config = self.config(inputs, workspace, checkpoint, evaluation={"tasks": ["piqa"]})
        with pytest.raises(ConfigError, match=r"lm-eval, which is not installed: pip install 'xtoken\[eval\]'"):
            run_checks(config, EVALUATE)

    def test_a_home_folder_is_understood(
        self, inputs: FlowInputs, workspace: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(checkpoint.parent))
        run_checks(self.config(inputs, workspace, Path("~/checkpoint")), EVALUATE)
