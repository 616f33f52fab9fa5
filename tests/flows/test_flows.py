"""The whole job on small real input: what it leaves behind, what the next run takes from it, what a change costs."""

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from flow_inputs import STUDENT_IDS, TRAINING, FlowInputs, flip_a_byte, shard_bytes, write_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from flows.build_projection import build_projection
from flows.cache_teacher import cache_teacher
from flows.claims import require_free
from flows.config import ConfigError, EvaluationConfig, RunConfig
from flows.distill import distill
from flows.evaluate import evaluate
from flows.prepare import prepare
from flows.runs import evaluate_job
from flows.summary import Summary
from trainer.job import Architecture
from trainer.run import TrainerError, read_metrics

pytestmark = pytest.mark.usefixtures("prefect_server", "ray_session")


@dataclass(frozen=True)
class FinishedRun:
    """A run that was distilled with a baseline; read-only."""

    config: RunConfig
    summary: Summary

    @property
    def folder(self) -> Path:
        return self.config.workspace / "runs" / "tiny"


@pytest.fixture(scope="module")
def run(inputs: FlowInputs, prefect_server: str, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    config = inputs.config(tmp_path_factory.mktemp("distilled"), baseline={"learning_rate": 2e-3})
    return FinishedRun(config, distill(config))


@pytest.fixture
def own(run: FinishedRun, tmp_path: Path) -> RunConfig:
    """The run in a copy of its workspace."""
    workspace = shutil.copytree(run.config.workspace, tmp_path / "workspace", symlinks=True)
    return run.config.model_copy(update={"workspace": workspace})


def evaluating(config: RunConfig, checkpoint: Path) -> RunConfig:
    """The config with another `evaluation.checkpoint`."""
    return config.model_copy(update={"evaluation": EvaluationConfig(checkpoint=str(checkpoint))})


def changed(config: RunConfig, section: str, **values: Any) -> RunConfig:
    """The config with other values in a section; a section of several has them in its first part."""
    old = getattr(config, section)
    if isinstance(old, tuple):
        return config.model_copy(update={section: (old[0].model_copy(update=values), *old[1:])})
    return config.model_copy(update={section: old.model_copy(update=values)})


def files(folder: Path) -> dict[Path, bytes]:
    """Everything in a folder that is no lock."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


def artifact_files(workspace: Path) -> dict[Path, int]:
    """Every file of every artifact -> when it was written."""
    kinds = ("windows", "tokens", "alignments", "caches", "projections", "vocabularies")
    paths = [path for kind in kinds for path in (workspace / kind).rglob("*") if path.is_file()]
    return {path: path.stat().st_mtime_ns for path in paths if not path.name.endswith(".lock")}


class TestResults:
    def test_the_summary_has_the_numbers_that_others_read(self, run: FinishedRun) -> None:
        summary = json.loads((run.folder / "summary.json").read_text())
        for name in ("ce_bits_per_byte", "distilled_bits_per_byte"):
            assert 0 < summary[name] < 8
        assert set(summary["seconds"]) == {"projection", "prepare", "cache", "train ce", "train distilled", "report"}
        assert set(summary["trainings"]) == {"ce", "distilled"}
        assert summary["exact_byte_share"] == {"llama": 1.0}
        assert summary == json.loads(run.summary.model_dump_json(exclude_none=True))

    def test_the_teachers_score_is_that_of_its_held_out_text(self, run: FinishedRun) -> None:
        """Log-probabilities of one forward pass per held-out window, over the bytes of those windows."""
        prepared = prepare(run.config)
        model: Any = AutoModelForCausalLM.from_pretrained(run.config.teachers[0].model).eval()
        nats, size = 0.0, 0
        for index in range(len(prepared.windows)):
            windows = prepared.windows.table(index).to_pylist()
            tokens = prepared.teachers[0].tokens.table(index)["ids"].to_pylist()
            for window, ids in zip(windows, tokens, strict=True):
                if window["split"] == "heldout":
                    with torch.inference_mode():
                        logits = model(torch.tensor([ids])).logits[0, :-1]
                    nats += torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="sum").item()
                    size += len(window["text"].encode())
        assert size > 0
        expected = nats / math.log(2) / size
        assert run.summary.teacher_bits_per_byte == {"llama": pytest.approx(expected, rel=1e-4)}

    def test_both_students_learned_and_only_one_saw_the_teacher(self, run: FinishedRun) -> None:
        for name, teachers in (("ce", set()), ("distilled", {"llama"})):
            records = read_metrics(run.folder / name)
            assert [record.step for record in records] == list(range(TRAINING["steps"] + 1))
            held_out = {r.step: r.heldout_bits_per_byte for r in records if r.heldout_bits_per_byte is not None}
            assert set(held_out) == {0, 3, 6}
            assert run.summary.trainings[name].best_bits_per_byte == min(held_out.values()) < held_out[0]
            assert all(set(record.kd) == teachers for record in records[1:])

    def test_checkpoints_open_as_ordinary_models(self, run: FinishedRun) -> None:
        for training in run.summary.trainings.values():
            model: Any = AutoModelForCausalLM.from_pretrained(training.best_checkpoint)
            tokenizer = AutoTokenizer.from_pretrained(training.best_checkpoint)
            assert model.config.vocab_size == STUDENT_IDS
            with torch.inference_mode():
                logits = model(**tokenizer("def f(): return 1", return_tensors="pt")).logits
            assert torch.isfinite(logits).all()

    def test_the_report_and_the_config_are_there(self, run: FinishedRun) -> None:
        page = (run.folder / "report.html").read_text()
        for text in ("<html", "cross-entropy", f"{run.summary.distilled_bits_per_byte:.3f}", "teacher llama"):
            assert text in page
        assert (run.folder / "curves.png").read_bytes().startswith(b"\x89PNG")
        kept = yaml.safe_load((run.folder / "config.yaml").read_text())
        assert RunConfig.model_validate(kept) == run.config

    def test_evaluate_measures_the_best_checkpoint_again(self, run: FinishedRun) -> None:
        result = evaluate(run.config)
        assert result.bits_per_byte == pytest.approx(run.summary.distilled_bits_per_byte, rel=1e-5)
        assert result.windows > 0

    def test_every_checkpoint_has_a_file_of_its_own_that_names_it(self, run: FinishedRun, tmp_path: Path) -> None:
        elsewhere = shutil.copytree(run.folder / "ce" / "best", tmp_path / "copy")
        for checkpoint in (run.folder / "ce" / "best", run.folder / "distilled" / "best", elsewhere):
            evaluate(evaluating(run.config, checkpoint))
        files = [json.loads(path.read_text()) for path in (run.folder / "evaluations").iterdir()]
        found = {file["checkpoint"]: file["bits_per_byte"] for file in files}
        ce, distilled = run.summary.trainings["ce"], run.summary.trainings["distilled"]
        assert found == {
            str(ce.best_checkpoint.resolve()): pytest.approx(ce.best_bits_per_byte, rel=1e-5),
            str(distilled.best_checkpoint.resolve()): pytest.approx(distilled.best_bits_per_byte, rel=1e-5),
            str(elsewhere): pytest.approx(ce.best_bits_per_byte, rel=1e-5),
        }

    def test_evaluate_makes_nothing_of_the_teachers(self, run: FinishedRun, tmp_path: Path) -> None:
        gone = run.config.teachers[0].model_copy(update={"model": str(tmp_path / "gone")})
        config = evaluating(run.config, run.folder / "distilled" / "best")
        config = config.model_copy(update={"workspace": tmp_path / "workspace", "teachers": (gone,)})
        assert evaluate(config).bits_per_byte == pytest.approx(run.summary.distilled_bits_per_byte, rel=1e-5)
        made = sorted(
            path.relative_to(config.workspace).parts[0] for path in config.workspace.glob("*/*/manifest.json")
        )
        assert made == ["screenings", "tokens", "vocabularies", "windows"]

    def test_evaluate_takes_the_micro_batches_of_the_training(self, run: FinishedRun) -> None:
        training = run.config.training.model_copy(update={"micro_batch_windows": 3})
        config = run.config.model_copy(update={"training": training})
        assert evaluate_job(config, prepare(config)).batch_windows == 3


class TestReuse:
    def test_the_second_run_makes_nothing(self, run: FinishedRun, caplog: pytest.LogCaptureFixture) -> None:
        before = artifact_files(run.config.workspace)
        again = distill(run.config)
        assert artifact_files(run.config.workspace) == before
        assert len(before) > 20
        assert all(training.reused for training in again.trainings.values())
        assert again.distilled_bits_per_byte == run.summary.distilled_bits_per_byte
        assert "train ce: reused the finished training" in caplog.text

    def test_what_only_the_trainer_reads_touches_neither_text_nor_teacher(self, run: FinishedRun) -> None:
        before = artifact_files(run.config.workspace)
        training = run.config.training.model_copy(update={"seed": 1, "steps": 3})
        cache_teacher(run.config.model_copy(update={"training": training, "name": "other", "baseline": None}))
        assert artifact_files(run.config.workspace) == before

    def test_a_damaged_cache_shard_is_made_again_as_it_was(
        self, own: RunConfig, caplog: pytest.LogCaptureFixture
    ) -> None:
        (cache,) = own.workspace.glob("caches/*/")
        before, others = shard_bytes(cache), artifact_files(own.workspace)
        flip_a_byte(cache / "shard-00001.arrow")
        assert cache_teacher(own)["llama"].folder == cache
        assert shard_bytes(cache) == before
        assert str(cache / "shard-00001.arrow") in caplog.text
        changed = {path.name for path, time in artifact_files(own.workspace).items() if others[path] != time}
        assert changed == {"shard-00001.arrow", "shard-00001.arrow.json", "manifest.json"}

    def test_a_changed_tokenizer_file_changes_all_but_the_windows(
        self, own: RunConfig, inputs: FlowInputs, tmp_path: Path
    ) -> None:
        teacher = shutil.copytree(inputs.root / "teacher", tmp_path / "teacher")
        path = teacher / "tokenizer.json"
        definition = json.loads(path.read_text())
        definition["model"]["merges"].pop()
        path.write_text(json.dumps(definition))
        config = own.model_copy(update={"teachers": (own.teachers[0].model_copy(update={"model": str(teacher)}),)})

        before = artifact_files(own.workspace)
        cache_teacher(config)
        build_projection(config)
        after = artifact_files(own.workspace)
        assert {path: after[path] for path in before} == before
        folders = {path.relative_to(own.workspace).parts[:2] for path in set(after) - set(before)}
        assert sorted(kind for kind, _ in folders) == ["alignments", "caches", "projections", "tokens"]


class TestRefusal:
    """A run under the name of another one: the other stays as it is, and as little as possible is computed."""

    @pytest.mark.parametrize(
        ("section", "values", "message"),
        [
            ("training", {"steps": 5}, r"ce holds another run, .*settings\.steps: 6 there, 5 now"),
            (
                "training",
                {"kd_weight": 0.5},
                r"distilled holds another run, .*settings\.kd_weight: 1\.0 there, 0\.5 now",
            ),
            (
                "baseline",
                {"learning_rate": 0.1},
                r"ce holds another run, .*settings\.learning_rate: 0\.002 there, 0\.1 now",
            ),
            ("student", {"max_length": 99}, r"student\.max_length: 256 there, 99 now"),
            ("student", {"architecture": Architecture(hidden_size=48)}, r"architecture\.hidden_size: 32 there, 48 now"),
            ("student", {"architecture": None, "model": "some/model"}, r"student\.architecture: .* there, None now"),
            ("teachers", {"weight": 0.5}, r"distilled holds another run, .*teachers\.0\.weight: 1\.0 there, 0\.5 now"),
            ("teachers", {"name": "other"}, r"teachers\.0\.name: llama there, other now"),
        ],
    )
    def test_what_the_config_says_is_asked_first(
        self, run: FinishedRun, section: str, values: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ConfigError, match=message):
            require_free(changed(run.config, section, **values))

    @pytest.mark.parametrize("count", [0, 2])
    def test_another_number_of_teachers(self, run: FinishedRun, count: int) -> None:
        (llama,) = run.config.teachers
        teachers = (llama, llama.model_copy(update={"name": "second"}))[:count]
        names = [teacher.name for teacher in teachers]
        with pytest.raises(ConfigError) as caught:
            require_free(run.config.model_copy(update={"teachers": teachers}))
        assert f"teacher names: ['llama'] there, {names} now): give this run another `name`" in str(caught.value)

    @pytest.mark.parametrize("values", [{"keep_checkpoints": 7, "loggers": ("wandb",)}, {"checkpoint_every": 2}, {}])
    def test_what_does_not_change_the_numbers_is_no_other_run(self, run: FinishedRun, values: dict[str, Any]) -> None:
        require_free(changed(run.config, "training", **values))

    def test_a_name_that_is_not_taken(self, run: FinishedRun) -> None:
        require_free(changed(run.config, "training", steps=5).model_copy(update={"name": "free"}))

    def test_nothing_is_touched_and_no_stage_runs(self, run: FinishedRun) -> None:
        config = changed(changed(run.config, "training", steps=5), "cache", top_k=9)
        before = files(config.workspace)
        with pytest.raises(ConfigError, match=r"runs/tiny/ce holds another run, which is left as it is"):
            distill(config)
        assert files(config.workspace) == before

    def test_other_records_are_refused_before_the_teacher_makes_them(self, own: RunConfig) -> None:
        before, caches = files(own.workspace / "runs"), list(own.workspace.glob("caches/*"))
        with pytest.raises(ConfigError, match=r"distilled holds another run, .*teachers\.0\.cache: \w+ there, \w+ now"):
            distill(changed(own, "cache", top_k=9))
        assert list(own.workspace.glob("caches/*")) == caches
        after = files(own.workspace / "runs")
        assert {path for path in before | after if before.get(path) != after.get(path)} == {
            own.workspace / "runs" / "tiny" / "seconds.json"
        }

    def test_the_config_stays_until_the_trainer_has_accepted_its_trainings(self, own: RunConfig) -> None:
        """Weights and files of the student's tokenizer are what only the trainer compares."""
        folder = own.workspace / "runs" / "tiny"
        identity, config = folder / "ce" / "run.json", (folder / "config.yaml").read_bytes()
        ours = identity.read_text()
        known = json.loads(ours)
        known["identity"]["student"]["tokenizer"] = "another"
        identity.write_text(json.dumps(known))
        other = changed(own, "training", keep_checkpoints=1)
        with pytest.raises(TrainerError, match=r"student\.tokenizer: another there"):
            distill(other)
        assert (folder / "config.yaml").read_bytes() == config

        identity.write_text(ours)
        distill(other)
        assert yaml.safe_load((folder / "config.yaml").read_text())["training"]["keep_checkpoints"] == 1

    def test_the_config_of_a_new_run_is_there_while_it_trains(
        self, own: RunConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stop(*_arguments: Any, **_options: Any) -> None:
            raise TrainerError("stopped")

        monkeypatch.setattr("flows.distill.train", stop)
        new = own.model_copy(update={"name": "new"})
        with pytest.raises(TrainerError, match="stopped"):
            distill(new)
        kept = yaml.safe_load((new.workspace / "runs" / "new" / "config.yaml").read_text())
        assert RunConfig.model_validate(kept) == new


class TestTeachers:
    def test_two_at_once_one_with_the_students_own_tokenizer(self, inputs: FlowInputs, tmp_path: Path) -> None:
        """Whole distributions kept: p_kl over the projection for one, prefix_kl for the other."""
        brother = shutil.copytree(inputs.root / "student", tmp_path / "brother")
        write_model(brother, STUDENT_IDS)
        teachers = [
            inputs.teacher(loss="p_kl", weight=0.5),
            {"name": "brother", "model": str(brother), "max_length": 256, "weight": 2.0},
        ]
        config = inputs.config(
            tmp_path / "workspace",
            teachers=teachers,
            cache={"top_k": 0, "codec": "float32"},
            windows={"max_bytes": 100, "windows_per_shard": 64},
            training=TRAINING | {"ce_weight": 0.25},
        )
        summary = distill(config)
        assert summary.ce_bits_per_byte is None
        assert "ce_bits_per_byte" not in json.loads((tmp_path / "workspace/runs/tiny/summary.json").read_text())
        assert set(summary.teacher_bits_per_byte) == {"llama", "brother"}
        assert summary.exact_byte_share == {"llama": 1.0, "brother": 1.0}
        for record in read_metrics(config.workspace / "runs" / "tiny" / "distilled")[1:]:
            assert set(record.kd) == {"llama", "brother"}
            assert all(value > 0 for value in record.kd.values())
            assert record.loss == pytest.approx(
                0.5 * record.kd["llama"] + 2 * record.kd["brother"] + 0.25 * record.ce, rel=1e-4
            )
        (alignment,) = [t.alignments for t in prepare(config).teachers if t.name == "brother"]
        table = alignment.table(0)
        assert table["student_ids"].equals(table["teacher_ids"])
        assert [*build_projection(config).by_teacher] == ["llama"]
