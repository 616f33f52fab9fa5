"""Projections: what their files depend on, what rules are given to work on, and the audit on text."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from flow_inputs import FlowInputs, write_corpus, write_model
from real_tokenizers import write_byte_bpe

from flows.build_projection import BuiltProjection, Projections, build_projection, build_projections
from flows.checks import BUILD_PROJECTION, run_checks
from flows.config import ConfigError, RunConfig
from flows.errors import CorpusError
from flows.prepare import Prepared, prepare
from flows.report.audit import audit_json
from flows.resolve import tokenizer_of
from flows.stages.audits import read_audit
from storage.alignments import alignment_of
from storage.artifact import Artifact
from storage.columns import from_list_column
from storage.errors import ArtifactError
from storage.nemo_projections import NemoProjection, write_nemo
from storage.projections import TABLE, load_projection
from xtoken_core.models import ModelError
from xtoken_core.projection import Evidence, PairCounts, Projection, count_pairs
from xtoken_core.projection import build_projection as core_build
from xtoken_core.projection.audit import AlignedTexts, audit, count_texts

pytestmark = pytest.mark.usefixtures("prefect_server")

Config = Callable[..., RunConfig]


@pytest.fixture
def config(inputs: FlowInputs, tmp_path: Path) -> Config:
    """A config with one teacher; `sections` replace top-level keys, a teacher's keys in the first one's."""

    def make(teacher: dict[str, Any] | None = None, **sections: Any) -> RunConfig:
        return inputs.config(tmp_path / "workspace", teachers=[inputs.teacher(**teacher or {})], **sections)

    return make


def only(projections: Projections) -> BuiltProjection:
    (built,) = projections.by_teacher.values()
    return built


def rules_of(artifact: Artifact) -> set[str]:
    return set(pl.read_ipc(artifact.path(TABLE))["rule"])


def written(artifact: Artifact) -> dict[str, str]:
    return {entry.name: entry.checksum for entry in artifact.manifest.files}


class TestIdentity:
    def test_what_a_config_calls_its_teacher_is_in_no_file(self, inputs: FlowInputs, tmp_path: Path) -> None:
        contents = []
        for name in ("elephant", "mouse"):
            config = inputs.config(tmp_path / name, teachers=[inputs.teacher(name=name)])
            built = only(build_projection(config))
            contents.append([(one.manifest.fingerprint, written(one)) for one in (built.projection, built.audit)])
        assert contents[0] == contents[1]

    def test_pairs_that_are_built_together_are_as_built_alone(self, inputs: FlowInputs, tmp_path: Path) -> None:
        write_byte_bpe(tmp_path / "other", 400)
        teachers = [inputs.teacher(), {"name": "other", "tokenizer": str(tmp_path / "other")}, inputs.teacher(name="a")]
        together = build_projection(inputs.config(tmp_path / "together", teachers=teachers)).by_teacher
        assert list(together) == ["llama", "other", "a"]
        assert together["llama"] == together["a"]
        for teacher in teachers:
            alone = only(build_projection(inputs.config(tmp_path / "alone", teachers=[teacher])))
            assert written(alone.projection) == written(together[str(teacher["name"])].projection)
            assert written(alone.audit) == written(together[str(teacher["name"])].audit)

    def test_another_text_is_another_audit_of_the_same_projection(self, config: Config, tmp_path: Path) -> None:
        write_corpus(tmp_path / "texts" / "a.jsonl", ["1999 and 2024 are numbers. " * 20])
        first = only(build_projection(config()))
        second = only(build_projection(config(corpus={"files": [str(tmp_path / "texts" / "a.jsonl")]})))
        without = only(build_projection(config(corpus=None)))
        assert first.projection.folder == second.projection.folder == without.projection.folder
        assert len({first.audit.folder, second.audit.folder, without.audit.folder}) == 3
        assert without.audit.folder == without.projection.folder
        assert only(build_projection(config())).audit == first.audit

    def test_other_settings_are_another_projection(self, config: Config) -> None:
        settings = [{}, {"top_k": 2}, {"split": {"reverse": 0}}, {"roles": False}, {"names": {"weight": 0}}]
        folders = {only(build_projection(config(projection=one))).projection.folder for one in settings}
        assert len(folders) == len(settings)


class TestTeachersOfTheStudentsTokens:
    @pytest.fixture
    def same(self, inputs: FlowInputs) -> dict[str, Any]:
        return {"name": "same", "tokenizer": str(inputs.root / "student")}

    def test_they_need_no_projection(self, inputs: FlowInputs, same: dict[str, Any], tmp_path: Path) -> None:
        config = inputs.config(tmp_path, teachers=[same, inputs.teacher()])
        assert [*build_projection(config).by_teacher] == ["llama"]

    def test_nothing_to_project_is_said(self, inputs: FlowInputs, same: dict[str, Any], tmp_path: Path) -> None:
        config = inputs.config(tmp_path, teachers=[same])
        with pytest.raises(ConfigError, match=r"every teacher has the student's tokens.* use `loss: direct_kl`"):
            build_projection(config)
        assert build_projections(config, None).by_teacher == {}  # for a run that trains without any

    @pytest.mark.parametrize(
        ("keys", "named"), [({"loss": "p_kl"}, "loss: p_kl"), ({"projection": __file__}, "projection")]
    )
    def test_settings_that_would_be_ignored_are_refused(
        self, inputs: FlowInputs, same: dict[str, Any], tmp_path: Path, keys: dict[str, Any], named: str
    ) -> None:
        config = inputs.config(tmp_path, teachers=[inputs.teacher(), same | keys], cache={"top_k": 0})
        with pytest.raises(ConfigError, match=f"teacher same has the student's tokens.*`{named}` is not for it"):
            build_projection(config)


class TestCooccurrence:
    def test_what_meets_in_training_text_is_counted(self, config: Config) -> None:
        asked = config(projection={"cooccurrence": {"weight": 4.0}})
        built, prepared = only(build_projection(asked)), prepare(asked)
        student, teacher = (tokenizer_of(model) for model in (asked.student, asked.teachers[0]))
        expected, with_held_out = (
            core_build(student, teacher, asked.projection, Evidence(counts=meetings(prepared, splits)))
            for splits in ({"train"}, {"train", "heldout"})
        )
        found = load_projection(built.projection.folder, student.vocabulary, teacher.vocabulary)
        assert np.array_equal(found.indices, expected.indices)
        assert np.array_equal(found.weights, expected.weights)
        assert not np.array_equal(found.weights, with_held_out.weights)

    def test_another_corpus_is_another_projection(self, config: Config, tmp_path: Path) -> None:
        write_corpus(tmp_path / "texts" / "a.jsonl", [f"Another text {i}: def f(x): return x" for i in range(40)])
        corpus = {"files": [str(tmp_path / "texts" / "a.jsonl")], "holdout": 0.2}
        asked = {"projection": {"cooccurrence": {}}}
        folders = {
            only(build_projection(config(**asked, **more))).projection.folder for more in ({}, {"corpus": corpus})
        }
        assert len(folders) == 2

    def test_with_no_weight_nothing_is_prepared(self, config: Config) -> None:
        asked = config(projection={"cooccurrence": {"weight": 0}, "nearest": {"weight": 0, "model": "nowhere"}})
        build_projection(asked)
        assert not (asked.workspace / "windows").exists()

    def test_it_needs_a_corpus(self, config: Config) -> None:
        with pytest.raises(ValueError, match=r"projection\.cooccurrence counts the corpus, and there is no `corpus`"):
            config(projection={"cooccurrence": {}}, corpus=None)


def meetings(prepared: Prepared, splits: set[str]) -> PairCounts:
    """The first tokens of the exact chunks in the windows of these splits, counted one window at a time."""
    counts = PairCounts.none()
    for index in range(len(prepared.windows)):
        chunks = prepared.teachers[0].alignments.table(index)
        for row, split in enumerate(prepared.windows.table(index)["split"].to_pylist()):
            if split in splits:
                one = chunks.take([row])
                ids = (from_list_column(one[name]) for name in ("student_ids", "teacher_ids"))
                counts = counts.plus(count_pairs(alignment_of(one), *ids))
    return counts


class TestNearest:
    def test_any_language_model_gives_vectors(self, config: Config, tmp_path: Path) -> None:
        folder = write_byte_bpe(tmp_path / "vectors", 700)
        write_model(folder, 700)
        near = {"nearest": {"model": str(folder), "weight": 1.0, "k": 2}}
        built = only(build_projection(config(projection=near)))
        assert "nearest" in rules_of(built.projection)
        moved = folder.rename(tmp_path / "moved")
        again = config(projection={"nearest": near["nearest"] | {"model": str(moved)}})
        assert only(build_projection(again)).projection.folder == built.projection.folder
        write_model(moved, 701)
        assert only(build_projection(again)).projection.folder != built.projection.folder

    def test_a_model_that_is_not_there(self, config: Config, inputs: FlowInputs, tmp_path: Path) -> None:
        for model, message in (
            (tmp_path / "nowhere", "there is no folder"),
            (inputs.root / "student", "no config.json"),
        ):
            asked = config(projection={"nearest": {"model": str(model)}, "cooccurrence": {}})
            with pytest.raises(ModelError, match=message):
                build_projection(asked)
            assert not asked.workspace.exists()  # found before the corpus is prepared


class TestImport:
    @pytest.fixture
    def file(self, config: Config, tmp_path: Path) -> Path:
        """The default projection, in NeMo-RL's form."""
        asked = config()
        pair = (tokenizer_of(model).vocabulary for model in (asked.student, asked.teachers[0]))
        projection = load_projection(only(build_projection(asked)).projection.folder, *pair)
        write_nemo(tmp_path / "w.pt", NemoProjection(projection))
        return tmp_path / "w.pt"

    def test_it_takes_the_place_of_what_would_be_built(self, config: Config, file: Path) -> None:
        asked = config({"projection": str(file)})
        imported = only(build_projection(asked))
        pair = [tokenizer_of(model).vocabulary for model in (asked.student, asked.teachers[0])]
        found, expected = (
            load_projection(only(built).projection.folder, *pair)
            for built in (build_projection(asked), build_projection(config()))
        )
        assert np.array_equal(found.indices, expected.indices)
        np.testing.assert_allclose(found.weights, expected.weights, rtol=1e-6)
        assert rules_of(imported.projection) == {"exact", "imported"}

    def test_another_content_is_another_projection(self, config: Config, file: Path) -> None:
        asked = config({"projection": str(file)})
        first = only(build_projection(asked)).projection
        write_nemo(file, NemoProjection(load_first_column(first, asked)))
        assert only(build_projection(asked)).projection.folder != first.folder

    def test_a_file_that_is_not_there(self, config: Config, tmp_path: Path) -> None:
        asked = config({"projection": str(tmp_path / "nowhere.pt")})
        with pytest.raises(ConfigError, match=r"teachers\.0\.projection: there is no file .*nowhere\.pt"):
            build_projection(asked)
        assert not asked.workspace.exists()

    def test_a_file_of_other_tokenizers(self, config: Config, file: Path, tmp_path: Path) -> None:
        other = write_byte_bpe(tmp_path / "other", 300)
        with pytest.raises(ArtifactError, match=r"w\.pt has entries for teacher ids .* give the file of these two"):
            build_projection(config({"projection": str(file), "model": None, "tokenizer": str(other)}))

    def test_settings_that_no_teacher_uses_are_refused(self, config: Config, file: Path) -> None:
        with pytest.raises(ValueError, match="every teacher has a `projection` file, so none is built with these"):
            config({"projection": str(file)}, projection={"top_k": 3})


def load_first_column(artifact: Artifact, config: RunConfig) -> Projection:
    pair = (tokenizer_of(model).vocabulary for model in (config.student, config.teachers[0]))
    found = load_projection(artifact.folder, *pair)
    ones = np.where(found.indices[:, :1] >= 0, np.float32(1), np.float32(0))
    return Projection(found.indices[:, :1], ones, found.rules[:, :1])


class TestAudit:
    def test_a_sample_of_the_corpus_is_counted(self, config: Config, tmp_path: Path) -> None:
        texts = ["In 1999 there were 123 of them.\n" * 5, "x = [1, 22, 333]\n" * 9]
        write_corpus(tmp_path / "texts" / "a.jsonl", texts)
        asked = config(corpus={"files": [str(tmp_path / "texts" / "a.jsonl")]})
        built = only(build_projection(asked))
        student, teacher = (tokenizer_of(model) for model in (asked.student, asked.teachers[0]))
        counts = count_texts([AlignedTexts.of(texts, student, teacher)], student.vocabulary, teacher.vocabulary)
        matrix = load_projection(built.projection.folder, student.vocabulary, teacher.vocabulary)
        expected = audit(matrix, student.vocabulary, teacher.vocabulary, counts)
        assert built.audit.path("audit.json").read_bytes() == audit_json(expected)
        assert read_audit(built.audit).findings == expected.findings
        assert read_audit(built.audit).recommendation == expected.recommendation

    def test_what_is_prepared_is_counted_instead(self, config: Config) -> None:
        asked = config()
        prepared = prepare(asked)
        found = read_audit(only(build_projections(asked, prepared)).audit).findings.text
        assert found is not None
        assert found.n_bytes == prepared.teachers[0].alignments.manifest.total("n_bytes")

    def test_a_corpus_that_is_not_there_is_said_before_any_work(self, config: Config, tmp_path: Path) -> None:
        asked = config(corpus={"files": [str(tmp_path / "nowhere.jsonl")]})
        with pytest.raises(CorpusError, match=r"nowhere\.jsonl matches no file"):
            run_checks(asked, BUILD_PROJECTION)

    def test_the_overlap_of_all_tokenizers_is_a_page(self, config: Config) -> None:
        page = build_projection(config()).overlap.read_text()
        assert "student" in page
        assert "llama" in page


def test_settings_that_do_not_exist_are_refused(config: Config) -> None:
    for settings in ({"split": {"max_peices": 3}}, {"nearest": {"k": 3}}, {"reverse": True}):
        with pytest.raises(ValueError, match="projection"):
            config(projection=settings)
