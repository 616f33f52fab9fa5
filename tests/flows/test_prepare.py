"""Preparation as a whole: what is reused when corpus, teachers or students grow; sources, chats, runners, encoders."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import polars as pl
import pytest
from chat_templates import CHATML, SHOUTING, STRICT
from flow_inputs import FlowInputs, shard_bytes, write_corpus
from real_tokenizers import write_byte_bpe

from flows.cache_teacher import cache_teacher
from flows.config import ConfigError, RunConfig
from flows.config_files import load_config
from flows.prepare import Prepared, prepare
from storage.artifact import Artifact
from storage.columns import from_list_column
from trainer.ray_session import ensure_ray
from xtoken_core.align import ChunkKind
from xtoken_core.chats import ChatError
from xtoken_core.ragged import Ragged
from xtoken_core.tokenizer.encoders import GigatokenEncoder

pytestmark = pytest.mark.usefixtures("prefect_server")


def written(workspace: Path) -> dict[Path, tuple[int, int]]:
    """Every shard made from the corpus: inode and time of writing."""
    shards = (path for path in workspace.glob("**/shard-*.arrow") if "vocabularies" not in path.parts)
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in shards}


def shards(artifact: Artifact) -> list[Path]:
    return [artifact.path(entry.name) for entry in artifact.manifest.shards]


def column(artifact: Artifact, name: str) -> list[Any]:
    return [value for index in range(len(artifact)) for value in artifact.table(index)[name].to_pylist()]


@pytest.mark.usefixtures("every_file_is_large")
class TestGrowth:
    """What exists is never made again: a corpus, a teacher or a student more costs what is new, and nothing else."""

    @pytest.fixture(scope="class")
    def corpus(self, inputs: FlowInputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return shutil.copytree(inputs.root / "corpus", tmp_path_factory.mktemp("growing") / "corpus")

    @pytest.fixture(scope="class")
    def workspace(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("growth")

    def config(self, inputs: FlowInputs, workspace: Path, corpus: Path, **sections: Any) -> RunConfig:
        files = {"files": [str(corpus / "*.jsonl")], "holdout": 0.25}
        return inputs.config(workspace, corpus=files, **sections)

    def test_a_grown_corpus_computes_only_its_new_shards(
        self, inputs: FlowInputs, workspace: Path, corpus: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        config = self.config(inputs, workspace, corpus)
        caches = cache_teacher(config)
        before = prepare(config)
        write_corpus(corpus / "third.jsonl", [topics["if"][:500], topics["for"][:500]])
        caplog.clear()
        grown_caches = cache_teacher(config)
        after = prepare(config)
        pairs = [
            (before.windows, after.windows),
            (before.student_tokens, after.student_tokens),
            (before.teachers[0].tokens, after.teachers[0].tokens),
            (before.teachers[0].alignments, after.teachers[0].alignments),
            (caches["llama"], grown_caches["llama"]),
        ]
        for old, new in pairs:
            assert new.folder != old.folder
            assert len(new) == len(old) + 1
            pairs_of_shards = list(zip(shards(old), shards(new), strict=False))
            assert [a.name for a, b in pairs_of_shards if not a.samefile(b)] == [], new.manifest.kind
            assert new.manifest.shards[: len(old)] == old.manifest.shards
        assert caplog.text.count("made 1 shard(s)") == 5  # screening, two tokenizers, an alignment, a cache

    def test_a_teacher_more_leaves_everything_as_it_is(
        self, inputs: FlowInputs, workspace: Path, corpus: Path, tmp_path: Path
    ) -> None:
        prepare(self.config(inputs, workspace, corpus))
        before = written(workspace)
        tokenizer = write_byte_bpe(tmp_path / "other", 400)
        teachers = [inputs.teacher(), {"name": "other", "tokenizer": str(tokenizer)}]
        prepared = prepare(self.config(inputs, workspace, corpus, teachers=teachers))
        after = written(workspace)
        assert before.items() <= after.items()
        new = {path.parent for path in after.keys() - before.keys()}
        assert new == {prepared.teachers[1].tokens.folder, prepared.teachers[1].alignments.folder}

    def test_a_student_more_leaves_everything_as_it_is(
        self, inputs: FlowInputs, workspace: Path, corpus: Path, tmp_path: Path
    ) -> None:
        prepare(self.config(inputs, workspace, corpus))
        before = written(workspace)
        student = {"tokenizer": str(write_byte_bpe(tmp_path / "student", 450)), "max_length": 256}
        prepared = prepare(self.config(inputs, workspace, corpus, student=student))
        after = written(workspace)
        assert before.items() <= after.items()
        new = {path.parent for path in after.keys() - before.keys()}
        assert new == {prepared.student_tokens.folder, prepared.teachers[0].alignments.folder}


class TestSources:
    @pytest.fixture
    def config(self, inputs: FlowInputs, tmp_path: Path) -> RunConfig:
        files = [{"files": [str(inputs.root / "corpus" / f"{name}.jsonl")]} for name in ("first", "second")]
        sources = [{"name": "shared", **files[0]}, {"name": "own", "teachers": ["llama"], **files[1]}]
        other = {"name": "other", "tokenizer": str(inputs.root / "teacher")}
        return inputs.config(
            tmp_path / "workspace", corpus={"sources": sources, "holdout": 0.25}, teachers=[inputs.teacher(), other]
        )

    def test_a_teacher_has_no_tokens_for_windows_of_other_sources(self, config: RunConfig) -> None:
        prepared = prepare(config)
        source = np.array(column(prepared.windows, "source"))
        assert set(source) == {"shared", "own"}
        llama, other = prepared.teachers
        assert all(column(llama.tokens, "ids"))
        reads = np.array([len(ids) > 0 for ids in column(other.tokens, "ids")])
        np.testing.assert_array_equal(reads, source == "shared")

    def test_a_window_that_is_not_read_is_in_no_chunk(self, config: RunConfig) -> None:
        prepared = prepare(config)
        for index in range(len(prepared.windows)):
            table = prepared.teachers[1].alignments.table(index)
            unread = from_list_column(table["teacher_ids"]).lengths == 0
            lengths = from_list_column(table["student_ids"]).lengths
            np.testing.assert_array_equal(table["n_chunks"].to_numpy() == 0, unread)
            np.testing.assert_array_equal(table["student_chunk_start0"].to_numpy()[unread], lengths[unread])
        total = prepared.teachers[1].alignments.manifest.total
        assert total("n_exact_bytes") == total("n_bytes") > 0

    def test_windows_that_two_teachers_read_alike_are_encoded_once(self, config: RunConfig) -> None:
        prepared = prepare(config)
        shared = prepared.windows.manifest.shards[0].name
        first, second = (teacher.tokens.path(shared) for teacher in prepared.teachers)
        assert first.samefile(second)


CHATS = [
    [
        {"role": "user", "content": f"What is {number} + 1?"},
        {"role": "assistant", "content": f"<think>\nOne more.\n</think>\n\nIt is {number + 1}.\nReally."},
        {"role": "user", "content": "Sure? </s> <|im_end|>"},
        {"role": "assistant", "content": "Yes."},
    ]
    for number in range(30)
]


class TestChats:
    @pytest.fixture(scope="class")
    def folder(self, inputs: FlowInputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Two tokenizers with templates, and chats as JSONL."""
        folder = tmp_path_factory.mktemp("chats")
        for name, template in (("student", SHOUTING), ("teacher", CHATML)):
            shutil.copytree(inputs.root / name, folder / name)
            (folder / name / "chat_template.jinja").write_text(template)
        lines = [json.dumps({"messages": chat}) for chat in CHATS]
        (folder / "chats.jsonl").write_text("\n".join(lines))
        return folder

    def config(self, folder: Path, workspace: Path, **sections: Any) -> RunConfig:
        chats = {"files": [str(folder / "chats.jsonl")], "messages_column": "messages", "holdout": 0.25}
        base = {
            "workspace": workspace,
            "student": {"tokenizer": str(folder / "student")},
            "teachers": [{"name": "t", "tokenizer": str(folder / "teacher")}],
            "corpus": chats,
        }
        return RunConfig.model_validate(base | sections)

    @pytest.fixture(scope="class")
    def prepared(self, folder: Path, prefect_server: str, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
        return prepare(self.config(folder, tmp_path_factory.mktemp("workspace")))

    def test_a_conversation_is_one_window(self, prepared: Prepared) -> None:
        assert [json.loads(messages) for messages in column(prepared.windows, "messages")] == CHATS
        assert column(prepared.windows, "text") == [None] * len(CHATS)

    def test_both_sides_have_the_same_segments(self, prepared: Prepared) -> None:
        parts = len(CHATS[0]) + 1  # contents and a thought
        for tokens in (prepared.student_tokens, prepared.teachers[0].tokens):
            assert {len(ends) for ends in column(tokens, "segment_ends")} == {2 * parts + 1}

    def test_questions_are_exact_and_rewritten_answers_are_not_called_so(self, prepared: Prepared) -> None:
        rows = pl.read_ipc(shards(prepared.teachers[0].alignments)[0])
        kinds = rows.select(pl.col("chunk_kind").explode(), pl.col("chunk_exact").explode())
        counts = {tuple(row[:2]): row[2] for row in kinds.group_by("chunk_kind", "chunk_exact").len().rows()}
        assert counts[ChunkKind.TEXT, True] > counts[ChunkKind.TEXT, False] > 0
        assert counts[ChunkKind.TEMPLATE, False] > 0
        assert prepared.student_tokens.manifest.total("rewritten") == len(CHATS) * 3  # two answers and a thought

    def test_only_answers_count(self, prepared: Prepared) -> None:
        masks = column(prepared.student_tokens, "loss_mask")
        assert all(0 < sum(mask) < len(mask) / 2 for mask in masks)

    def test_dropped_thoughts_are_other_rows(self, folder: Path, prepared: Prepared, tmp_path: Path) -> None:
        dropped = prepare(self.config(folder, tmp_path / "workspace", chats={"thinking": "drop"}))
        ours, theirs = (column(each.teachers[0].tokens, "ids") for each in (prepared, dropped))
        assert all(len(a) > len(b) for a, b in zip(ours, theirs, strict=True))

    def test_a_refused_chat_is_left_out_for_that_model_and_said(
        self, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        strict = shutil.copytree(folder, tmp_path / "strict")
        (strict / "teacher" / "chat_template.jinja").write_text(STRICT)
        odd = [CHATS[0][1:], *CHATS]
        (strict / "chats.jsonl").write_text("\n".join(json.dumps({"messages": chat}) for chat in odd))
        prepared = prepare(self.config(strict, tmp_path / "workspace"))
        assert [len(ids) > 0 for ids in column(prepared.teachers[0].tokens, "ids")] == [False] + [True] * len(CHATS)
        assert all(column(prepared.student_tokens, "ids"))
        assert "refuses 1 of 31 chats" in caplog.text
        assert f"window {column(prepared.windows, 'window_id')[0]:016x}: " in caplog.text
        assert "roles must alternate" in caplog.text

    def test_marks_that_are_no_tokens_are_said_once(
        self, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """However many shards there are."""
        copied = shutil.copytree(folder, tmp_path / "copied")  # another folder than that of the tests before
        (copied / "teacher" / "chat_template.jinja").write_text(CHATML.replace("im_", "chat_"))
        prepare(self.config(copied, tmp_path / "workspace", windows={"windows_per_shard": 4}))
        said = [record.getMessage() for record in caplog.records if "spells in pieces" in record.getMessage()]
        assert [message for message in said if "<|chat_start|>, <|chat_end|>" in message] == said
        assert len(said) == 1

    def test_a_model_without_a_template_is_said_before_any_work(self, folder: Path, tmp_path: Path) -> None:
        bare = shutil.copytree(folder, tmp_path / "bare")
        (bare / "teacher" / "chat_template.jinja").unlink()
        with pytest.raises(ChatError, match=r"teacher has no chat template"):
            prepare(self.config(bare, tmp_path / "workspace"))
        assert not (tmp_path / "workspace").exists()


def outcome(prepared: Prepared) -> list[dict[str, bytes]]:
    """The bytes of all shards."""
    artifacts = [prepared.windows, prepared.student_tokens]
    artifacts += [part for teacher in prepared.teachers for part in (teacher.tokens, teacher.alignments)]
    return [shard_bytes(artifact.folder) for artifact in artifacts]


class TestRunners:
    @pytest.fixture(scope="class")
    def expected(
        self, inputs: FlowInputs, prefect_server: str, tmp_path_factory: pytest.TempPathFactory
    ) -> list[dict[str, bytes]]:
        return outcome(prepare(inputs.config(tmp_path_factory.mktemp("one"), prepare={"threads": 1})))

    def test_threads_make_no_difference(
        self, inputs: FlowInputs, tmp_path: Path, expected: list[dict[str, bytes]]
    ) -> None:
        assert outcome(prepare(inputs.config(tmp_path, prepare={"threads": 5}))) == expected

    def test_ray_makes_no_difference(
        self, inputs: FlowInputs, tmp_path: Path, ray_session: None, expected: list[dict[str, bytes]]
    ) -> None:
        assert outcome(prepare(inputs.config(tmp_path, prepare={"runner": "ray"}))) == expected

    def test_a_relative_workspace_is_the_same_folder_for_workers_that_were_started_elsewhere(
        self,
        inputs: FlowInputs,
        tmp_path: Path,
        ray_session: None,
        expected: list[dict[str, bytes]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        ensure_ray()
        monkeypatch.chdir(tmp_path)
        assert outcome(prepare(inputs.config(Path("here"), prepare={"runner": "ray"}))) == expected
        assert [path.name for path in tmp_path.iterdir()] == ["here"]

    def test_ray_is_not_started_where_nothing_is_missing(
        self, inputs: FlowInputs, tmp_path: Path, prefect_server: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        prepare(inputs.config(tmp_path))

        def refuse() -> None:
            raise AssertionError("Ray was started")

        monkeypatch.setattr("flows.ray_runner.ensure_ray", refuse)
        prepare(inputs.config(tmp_path, prepare={"runner": "ray"}))

    def test_an_error_on_ray_is_the_error_itself(
        self, inputs: FlowInputs, tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = inputs.config(tmp_path / "workspace", prepare={"runner": "ray"})
        prepared = prepare(config)
        shutil.rmtree(prepared.student_tokens.folder)
        prepared.student_tokens.folder.write_text("in the way")
        with pytest.raises(Exception, match=r"cannot write .*tokens"):
            prepare(config)

    def test_threads_for_ray_are_refused(self, inputs: FlowInputs, tmp_path: Path) -> None:
        path = tmp_path / "config.yaml"
        path.write_text(json.dumps(inputs.sections(tmp_path) | {"prepare": {"runner": "ray", "threads": 2}}))
        with pytest.raises(ConfigError, match=r"prepare\.threads is for `runner: threads`"):
            load_config(path)


class TestEncoders:
    def test_the_slow_library_makes_no_difference(self, inputs: FlowInputs, tmp_path: Path) -> None:
        fast, slow = tmp_path / "fast", tmp_path / "slow"
        made = prepare(inputs.config(fast))
        assert outcome(prepare(inputs.config(slow, prepare={"encoder": "tokenizers"}))) == outcome(made)

    @pytest.fixture
    def wrong(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """gigatoken gives wrong ids for a word of the corpus, and only there."""
        encode: Callable[..., Ragged] = GigatokenEncoder._encode
        calls: list[int] = []

        def wrong(encoder: GigatokenEncoder, texts: Ragged) -> Ragged:
            calls.append(len(texts))
            found = encode(encoder, texts)
            has_word = any(b"statement" in row.tobytes() for row in texts)
            return Ragged(found.values[::-1].copy(), found.offsets) if has_word else found

        monkeypatch.setattr(GigatokenEncoder, "_encode", wrong)
        return calls

    def test_other_ids_in_a_sample_of_the_corpus_switch_it_off_with_a_warning(
        self, inputs: FlowInputs, tmp_path: Path, wrong: list[int], caplog: pytest.LogCaptureFixture
    ) -> None:
        prepared = prepare(inputs.config(tmp_path / "workspace"))
        assert wrong
        assert "gigatoken gives other ids than `tokenizers` for text of this corpus" in caplog.text
        right = prepare(inputs.config(tmp_path / "right", prepare={"encoder": "tokenizers"}))
        assert outcome(prepared) == outcome(right)


def test_a_lossy_tokenizer_needs_to_be_asked_for(inputs: FlowInputs, tmp_path: Path) -> None:
    folder = shutil.copytree(inputs.root / "teacher", tmp_path / "lower")
    definition = json.loads((folder / "tokenizer.json").read_text())
    definition["normalizer"] = {"type": "Lowercase"}
    (folder / "tokenizer.json").write_text(json.dumps(definition))
    teacher = {"name": "lower", "tokenizer": str(folder)}
    with pytest.raises(ValueError, match="the tokens of a probe text do not spell it"):
        prepare(inputs.config(tmp_path / "workspace", teachers=[teacher]))
    assert not (tmp_path / "workspace").exists()  # found before any work
    lossy = teacher | {"tokenizer_lossy": True}
    prepared = prepare(inputs.config(tmp_path / "workspace", teachers=[lossy]))
    total = prepared.teachers[0].alignments.manifest.total
    assert 0.8 < total("n_exact_bytes") / total("n_bytes") < 1
