"""Corpus -> windows: what the rows are, and what is left of them when a run is killed or a file is damaged.

Each file has shards of its own, as large ones do; `test_small_files.py` is about those that share them.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flow_inputs import FlowInputs, flip_a_byte, run_and_die, shard_bytes, write_corpus

from flows.config import RunConfig
from flows.corpus import BadRows, Document, SourceFile, read_documents
from flows.errors import CorpusError
from flows.prepare import prepare
from flows.stages.windows import build_windows
from storage.artifact import Artifact, open_artifact, read_table
from storage.hashing import hash64
from storage.schemas import WINDOWS
from storage.windows import FileRows, readings

pytestmark = pytest.mark.usefixtures("prefect_server", "every_file_is_large")


def document(number: int) -> str:
    lines = range(6 + 2 * number)
    return "\n".join(f"Line {line} of document {number}: {'words and words ' * (line % 5)}" for line in lines)


FIRST = [document(number) for number in range(7)]
SECOND = [FIRST[0], *(document(number) for number in range(7, 12)), FIRST[0], "short", "", "中文 😀 text " * 40]
HOLDOUT = 0.3


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two files; one document is in both of them, twice in the second."""
    write_corpus(tmp_path / "corpus" / "a.jsonl", FIRST)
    write_corpus(tmp_path / "corpus" / "b.jsonl", SECOND)
    return tmp_path / "corpus"


@pytest.fixture
def config(inputs: FlowInputs, corpus: Path, tmp_path: Path) -> RunConfig:
    return config_of(inputs, corpus, tmp_path / "workspace")


def config_of(inputs: FlowInputs, corpus: Path, workspace: Path, **windows: Any) -> RunConfig:
    return inputs.config(
        workspace,
        corpus={"files": [str(corpus / "*.jsonl")], "holdout": HOLDOUT},
        windows={"max_bytes": 512, "windows_per_shard": 8} | windows,
    )


def rows(artifact: Artifact) -> list[dict[str, Any]]:
    return [row for index in range(len(artifact)) for row in artifact.table(index).to_pylist()]


def written_at(folder: Path) -> dict[str, tuple[int, int]]:
    """Name -> inode and time of an artifact's shards: a shard that is written again has others."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("shard-*.arrow")}


def shards_of(artifact: Artifact, source: str) -> list[str]:
    """The names of the shards that were made from the corpus file `source`."""
    files = FileRows.of(artifact)
    return [entry.name for index, entry in enumerate(artifact.manifest.shards) if set(files.names(index)) == {source}]


def same_files(part: Artifact, whole: Artifact) -> bool:
    """Whether the shards of `part` are files of `whole` too, under the same names."""
    return all(path.samefile(whole.folder / path.name) for path in part.folder.glob("shard-*.arrow"))


class TestRows:
    @pytest.fixture
    def windows(self, config: RunConfig) -> Artifact:
        return build_windows(config)

    def test_shards_hold_one_file_each_and_are_full_but_the_last(self, windows: Artifact) -> None:
        tables = [windows.table(index) for index in range(len(windows))]
        assert all(table.schema.equals(WINDOWS) for table in tables)
        assert all(set(table["source"].to_pylist()) == {"corpus"} for table in tables)
        first, second = shards_of(windows, "a.jsonl"), shards_of(windows, "b.jsonl")
        rows_of = {entry.name: table.num_rows for entry, table in zip(windows.manifest.shards, tables, strict=True)}
        assert list(rows_of) == [*first, *second]
        assert all(rows_of[name] == 8 for name in (*first[:-1], *second[:-1]))

    def test_beside_the_shards_is_what_each_file_held(self, windows: Artifact) -> None:
        first, second = readings(windows)
        assert (first.file, first.source, first.documents, first.empty) == ("a.jsonl", "corpus", len(FIRST), 0)
        assert (second.file, second.documents, second.empty) == ("b.jsonl", len(SECOND) - 1, 1)
        assert first.bytes == len("".join(FIRST).encode())
        for reading in (first, second):
            entries = [windows.folder / name for name in shards_of(windows, reading.file)]
            assert reading.windows == sum(read_table(path).num_rows for path in entries) > 0

    def test_windows_in_order_are_the_documents(self, windows: Artifact) -> None:
        documents: list[bytes] = []
        for row in rows(windows):
            if row["byte_start"] == 0:
                documents.append(b"")
            assert row["byte_start"] == len(documents[-1])
            documents[-1] += row["text"].encode()
            assert row["byte_end"] == len(documents[-1])
        assert documents == [text.encode() for text in (*FIRST, *SECOND) if text]

    def test_ids_are_unique_though_documents_repeat(self, windows: Artifact) -> None:
        found = rows(windows)
        assert len({row["window_id"] for row in found}) == len(found)
        copies = Counter(row["doc_id"] for row in found if row["byte_start"] == 0)
        assert copies[hash64(FIRST[0].encode())] == 3
        assert sorted(copies.values())[:-1] == [1] * (len(copies) - 1)

    def test_the_documents_hash_alone_decides_what_is_held_out(self, windows: Artifact) -> None:
        for row in rows(windows):
            assert row["split"] == ("heldout" if row["doc_id"] / 2**64 < HOLDOUT else "train")
        assert {row["split"] for row in rows(windows)} == {"heldout", "train"}


def test_a_grown_corpus_keeps_its_ids(config: RunConfig, corpus: Path) -> None:
    before = [(row["window_id"], row["split"]) for row in rows(build_windows(config))]
    write_corpus(corpus / "b.jsonl", [*SECOND, FIRST[0], "new text"])
    write_corpus(corpus / "c.jsonl", [FIRST[1]])
    after = [(row["window_id"], row["split"]) for row in rows(build_windows(config))]
    assert after[: len(before)] == before
    assert len(set(after)) == len(after) > len(before)


class TestReuse:
    """Shards are reused across artifacts: a grown corpus computes only what is new."""

    def test_a_file_more_leaves_the_shards_of_the_others(
        self, config: RunConfig, corpus: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        before = build_windows(config)
        write_corpus(corpus / "c.jsonl", [FIRST[1], "new text"])
        caplog.clear()
        after = build_windows(config)
        assert after.folder != before.folder
        assert same_files(before, after)
        assert after.manifest.shards[: len(before)] == before.manifest.shards
        assert [row["text"] for row in rows(after)][before.rows :][-1] == "new text"
        assert len({row["window_id"] for row in rows(after)}) == after.rows
        assert f"windows: reused {len(shards_of(before, 'b.jsonl'))} shard(s) of b.jsonl" in caplog.text

    def test_a_file_before_them_that_changes_their_ids_leaves_none(self, config: RunConfig, corpus: Path) -> None:
        """Copies are numbered in the order of the files: another copy before them moves the numbers on."""
        build_windows(config)
        write_corpus(corpus / "Z.jsonl", [FIRST[0]])
        grown = build_windows(config)
        undisturbed = build_windows(config.model_copy(update={"workspace": config.workspace.with_name("other")}))
        assert shard_bytes(grown.folder) == shard_bytes(undisturbed.folder)

    def test_a_file_less_leaves_the_shards_of_the_others(self, config: RunConfig, corpus: Path) -> None:
        before = build_windows(config)
        (corpus / "b.jsonl").unlink()
        after = build_windows(config)
        assert shard_bytes(after.folder).items() < shard_bytes(before.folder).items()
        assert same_files(after, before)

    def test_a_damaged_shard_of_another_artifact_is_not_taken(self, config: RunConfig, corpus: Path) -> None:
        before = build_windows(config)
        right = shard_bytes(before.folder)
        flip_a_byte(before.path("shard-00000.arrow"))
        write_corpus(corpus / "c.jsonl", ["new text"])
        assert shard_bytes(build_windows(config).folder).items() > right.items()

    def test_the_same_corpus_elsewhere_is_not_cut_again(
        self, inputs: FlowInputs, config: RunConfig, corpus: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        made = build_windows(config)
        manifest = (made.folder / "manifest.json").read_bytes()
        moved = corpus.rename(corpus.with_name("moved"))
        again = build_windows(config_of(inputs, moved, config.workspace))
        assert again == made
        assert (made.folder / "manifest.json").read_bytes() == manifest
        assert f"windows: reused {made.folder}" in caplog.text

    def test_changed_text_gives_a_new_artifact(self, config: RunConfig, corpus: Path) -> None:
        made = build_windows(config)
        write_corpus(corpus / "a.jsonl", [*FIRST[:-1], FIRST[-1] + "!"])
        changed = build_windows(config)
        assert changed.folder != made.folder
        assert open_artifact(made.folder, "windows") == made

    def test_changed_settings_give_a_new_artifact(self, inputs: FlowInputs, config: RunConfig, corpus: Path) -> None:
        other = config_of(inputs, corpus, config.workspace, max_bytes=500)
        assert build_windows(other).folder != build_windows(config).folder


def delete(path: Path) -> None:
    path.unlink()


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def forget(path: Path) -> None:
    path.with_name(f"{path.name}.json").unlink()
    (path.parent / "manifest.json").unlink()


class TestDamage:
    @pytest.mark.parametrize("break_it", [delete, flip_a_byte, cut_off, forget])
    @pytest.mark.parametrize("index", [0, 4, -1])
    def test_a_damaged_shard_alone_is_made_again_as_it_was(
        self, config: RunConfig, break_it: Callable[[Path], None], index: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        made = build_windows(config)
        before = shard_bytes(made.folder)
        name = made.manifest.shards[index].name
        kept = {other: written for other, written in written_at(made.folder).items() if other != name}
        parts = {source: shards_of(made, source) for source in ("a.jsonl", "b.jsonl")}
        break_it(made.path(name))
        again = build_windows(config)
        assert shard_bytes(again.folder) == before
        assert again.manifest.files == made.manifest.files
        assert kept.items() <= written_at(made.folder).items()
        for source, names in parts.items():
            found = f"{len(names) - 1} of {len(names)} shards" if name in names else f"{len(names)} shard(s)"
            assert f"windows: reused {found} of {source}" in caplog.text


class TestKill:
    def test_a_killed_process_leaves_what_the_next_one_finishes(
        self,
        inputs: FlowInputs,
        corpus: Path,
        tmp_path: Path,
        prefect_server: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        config = config_of(inputs, corpus, tmp_path / "workspace", windows_per_shard=3)
        undisturbed = build_windows(config.model_copy(update={"workspace": tmp_path / "undisturbed"}))
        first, second = (shards_of(undisturbed, source) for source in ("a.jsonl", "b.jsonl"))
        finished = len(second) - 2
        assert finished > 1
        call = (
            "from flows.corpus import groups; groups.LARGE_BYTES = 1; "
            "from flows.stages.windows import build_windows; build_windows(config)"
        )
        reading = 2  # a file that is not a table and its receipt
        run_and_die(config, call, len(first) + reading + finished + 1, prefect_server)
        folder = config.workspace / "windows" / undisturbed.folder.name
        assert not (folder / "manifest.json").exists()
        left = written_at(folder)
        assert sorted(left) == [*first, *second[: finished + 1]]

        caplog.clear()
        resumed = build_windows(config)
        assert shard_bytes(resumed.folder) == shard_bytes(undisturbed.folder)
        assert resumed.manifest.files == undisturbed.manifest.files
        found = written_at(folder)
        assert [name for name in sorted(found) if found[name] != left.get(name)] == second[finished:]
        assert f"windows: reused {len(first)} shard(s) of a.jsonl" in caplog.text
        assert f"windows: reused {finished} of {len(second)} shards of b.jsonl" in caplog.text
        assert list(folder.glob(".*.tmp")) == []


def held_out_of(config: RunConfig, holdout: float) -> RunConfig:
    assert config.corpus is not None
    return config.model_copy(update={"corpus": config.corpus.model_copy(update={"holdout": holdout})})


class TestSplit:
    """What is held out depends on the documents' hashes, so that few documents may all end on one side."""

    @pytest.mark.parametrize(("holdout", "share", "remedy"), [(1e-9, "none", "raise"), (1 - 1e-9, "all", "lower")])
    def test_a_side_without_documents_is_said_before_anything_is_built_on_it(
        self, config: RunConfig, holdout: float, share: str, remedy: str
    ) -> None:
        uneven = held_out_of(config, holdout)
        documents = len([text for text in (*FIRST, *SECOND) if text])
        expected = (
            f"corpus.holdout: {holdout} holds out {share} of {documents} document(s), but training needs some held out "
            f"and some left: {remedy} it or add documents; 0 prepares windows that nothing is trained on"
        )
        with pytest.raises(CorpusError) as caught:
            build_windows(uneven)
        assert str(caught.value) == expected

    def test_the_shards_stay_and_are_not_made_twice(self, config: RunConfig, caplog: pytest.LogCaptureFixture) -> None:
        uneven = held_out_of(config, 1e-9)
        with pytest.raises(CorpusError, match="holds out none"):
            build_windows(uneven)
        (folder,) = (path for path in (config.workspace / "windows").iterdir() if path.is_dir())
        made = written_at(folder)
        assert len(made) > 1
        assert not (folder / "manifest.json").exists()
        with pytest.raises(CorpusError, match="holds out none"):
            build_windows(uneven)
        assert written_at(folder) == made
        assert caplog.text.count("windows: reused") == 2

    def test_without_holdout_everything_is_for_training(self, config: RunConfig) -> None:
        assert {row["split"] for row in rows(build_windows(held_out_of(config, 0.0)))} == {"train"}


class TestErrors:
    @pytest.mark.parametrize("documents", [[], ["", ""], [None]])
    def test_a_corpus_without_text(self, config: RunConfig, corpus: Path, documents: list) -> None:
        write_corpus(corpus / "a.jsonl", documents)
        write_corpus(corpus / "b.jsonl", [])
        for _ in range(2):
            with pytest.raises(CorpusError, match=r"corpus: no row of 2 files, from .*a\.jsonl on, holds a text"):
                build_windows(config)

    def test_bad_rows_are_told_again_where_everything_is_reused(
        self, config: RunConfig, corpus: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        write_corpus(corpus / "a.jsonl", ["a text", 5])
        made = build_windows(config)
        warning = "a.jsonl: left out 1 bad row(s) (1 not text): line 2 is not text: 5"
        assert caplog.text.count(warning) == 1
        assert build_windows(config) == made
        assert caplog.text.count(warning) == 2

    def test_an_empty_file_among_others_is_nothing_special(self, config: RunConfig, corpus: Path) -> None:
        write_corpus(corpus / "a.jsonl", [])
        made = build_windows(config)
        assert build_windows(config) == made
        assert [(reading.file, reading.windows > 0) for reading in readings(made)] == [
            ("a.jsonl", False),
            ("b.jsonl", True),
        ]

    def test_a_damaged_file_fails_at_once_and_works_once_repaired(self, config: RunConfig, corpus: Path) -> None:
        whole = (corpus / "b.jsonl").read_bytes()
        (corpus / "b.jsonl").write_bytes(b"no line is JSON\n")
        with pytest.raises(CorpusError, match=r"b\.jsonl"):
            build_windows(config)
        (corpus / "b.jsonl").write_bytes(whole)
        assert [reading.file for reading in readings(build_windows(config))] == ["a.jsonl", "b.jsonl"]

    def test_bad_rows_that_were_left_out_are_an_error_when_they_are_to_be_one(
        self, config: RunConfig, corpus: Path
    ) -> None:
        write_corpus(corpus / "a.jsonl", [*FIRST, None])
        made = build_windows(config)
        assert config.corpus is not None
        strict = config.model_copy(update={"corpus": config.corpus.model_copy(update={"bad_rows": "error"})})
        with pytest.raises(CorpusError, match=r"a\.jsonl: line 8 is null.*repair the row"):
            build_windows(strict)
        assert build_windows(config) == made

    def test_a_file_that_changes_while_it_is_read_leaves_no_shards_under_its_old_name(
        self, config: RunConfig, corpus: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old = (corpus / "b.jsonl").read_bytes()

        def change_then_read(file: SourceFile, bad_rows: BadRows) -> Iterator[Document]:
            if file.name == "b.jsonl":
                write_corpus(corpus / "b.jsonl", ["other text"] * 20)
            return read_documents(file, bad_rows)

        with monkeypatch.context() as patch:
            patch.setattr("flows.stages.group_reader.read_documents", change_then_read)
            with pytest.raises(CorpusError, match=r"b\.jsonl changed while it was read: run the command again"):
                build_windows(config)
        (corpus / "b.jsonl").write_bytes(old)
        assert "other text" not in {row["text"] for row in rows(build_windows(config))}

    @pytest.mark.parametrize("before", ["nothing", "a damaged artifact", "a sibling"])
    def test_what_was_cut_from_a_file_as_it_was_for_a_while_does_not_stay(
        self, config: RunConfig, corpus: Path, monkeypatch: pytest.MonkeyPatch, before: str
    ) -> None:
        """A run is killed while a file is another, so that nobody looks whether it is still what it was."""
        monkeypatch.setattr("flows.stages.documents._BATCH_BYTES", 100)
        undisturbed = build_windows(config.model_copy(update={"workspace": config.workspace.with_name("other")}))
        name = shards_of(undisturbed, "b.jsonl")[0]
        if before == "a damaged artifact":
            build_windows(config).path(name).unlink()
        if before == "a sibling":
            whole = (corpus / "a.jsonl").rename(corpus / "a.away")
            build_windows(config)
            whole.rename(corpus / "a.jsonl")

        def read_another_and_die(file: SourceFile, bad_rows: BadRows) -> Iterator[Document]:
            if file.name != "b.jsonl":
                yield from read_documents(file, bad_rows)
            else:
                yield from [Document(text="other text")] * 40
                raise CorpusError("killed")

        with monkeypatch.context() as patch:
            patch.setattr("flows.stages.group_reader.read_documents", read_another_and_die)
            if before == "a sibling":
                patch.setattr("flows.stages.windows.occurrences_agree", lambda *_: False)
            with pytest.raises(CorpusError, match="killed"):
                build_windows(config)
        left = config.workspace / "windows" / undisturbed.folder.name / name
        assert "other text" in read_table(left)["text"].to_pylist()
        made = build_windows(config)
        assert made.manifest.files == undisturbed.manifest.files
        assert shard_bytes(made.folder).items() >= shard_bytes(undisturbed.folder).items()

    def test_a_config_without_corpus(self, inputs: FlowInputs, tmp_path: Path) -> None:
        with pytest.raises(CorpusError, match=r"the config has no `corpus`: name files, e\.g\. corpus"):
            build_windows(inputs.config(tmp_path, corpus=None))


class TestPrepare:
    """Token ids and alignments: the loop over shards that all later stages share."""

    @pytest.fixture(scope="class")
    def workspace(self, inputs: FlowInputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Read-only: a prepared workspace."""
        folder = tmp_path_factory.mktemp("prepared")
        prepare(inputs.config(folder))
        return folder

    @pytest.fixture
    def own(self, inputs: FlowInputs, workspace: Path, tmp_path: Path) -> RunConfig:
        return inputs.config(shutil.copytree(workspace, tmp_path / "workspace"))

    def test_nothing_is_made_twice(self, own: RunConfig, workspace: Path, caplog: pytest.LogCaptureFixture) -> None:
        prepared = prepare(own)
        assert ": made " not in caplog.text
        assert caplog.text.count(": reused") == 5
        for artifact in (prepared.windows, prepared.student_tokens, prepared.teachers[0].alignments):
            there = workspace / artifact.folder.relative_to(own.workspace)
            assert (artifact.folder / "manifest.json").read_bytes() == (there / "manifest.json").read_bytes()

    @pytest.mark.parametrize("kind", ["tokens", "alignments"])
    def test_only_the_damaged_shard_is_made_again(
        self, own: RunConfig, kind: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = sorted(own.workspace.glob(f"{kind}/**/shard-00002.arrow"))[0]
        before, times = shard_bytes(path.parent), written_at(path.parent)
        flip_a_byte(path)
        prepare(own)
        assert shard_bytes(path.parent) == before
        changed = {name for name, time in written_at(path.parent).items() if times[name] != time}
        assert changed == {path.name}
        assert f"making the damaged part of {kind} again" in caplog.text
        assert str(path) in caplog.text
        assert f"reused {len(before) - 1} of {len(before)} shards" in caplog.text
        assert "made 1 shard(s)" in caplog.text

    def test_rows_of_all_artifacts_belong_to_the_same_windows(self, own: RunConfig) -> None:
        prepared = prepare(own)
        (teacher,) = prepared.teachers
        assert teacher.alignments.rows == prepared.windows.rows > 0
        for index in range(len(prepared.windows)):
            parts = (prepared.student_tokens, teacher.tokens, teacher.alignments)
            ids = [part.table(index)["window_id"] for part in parts]
            assert all(found.equals(prepared.windows.table(index)["window_id"]) for found in ids)
            aligned = teacher.alignments.table(index)
            assert aligned["student_ids"].equals(prepared.student_tokens.table(index)["ids"])
            assert aligned["teacher_ids"].equals(teacher.tokens.table(index)["ids"])

    def test_every_byte_is_aligned_exactly(self, own: RunConfig) -> None:
        """Both tokenizers are byte-level, so nothing may be lost; the counts are the windows' own."""
        prepared = prepare(own)
        total = prepared.teachers[0].alignments.manifest.total
        corpus_bytes = sum(row["byte_end"] - row["byte_start"] for row in rows(prepared.windows))
        assert total("n_exact_bytes") == total("n_bytes") == corpus_bytes
        assert total("n_exact") == total("n_chunks") > 0
        assert total("student_tokens") != total("teacher_tokens")
