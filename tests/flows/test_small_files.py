"""Small files share shards: the windows are those of the files apart, and each file is still known by its rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flow_inputs import FlowInputs, flip_a_byte, run_and_die, shard_bytes

from flows.config import RunConfig
from flows.corpus import BadRows, Document, SourceFile, read_documents
from flows.errors import CorpusError
from flows.stages.windows import build_windows
from storage.artifact import Artifact
from storage.windows import FileRows, read_group_reading, readings

pytestmark = pytest.mark.usefixtures("prefect_server")

FILES = 60
EMPTY, COPY, BROKEN = 7, 33, 21
MEAN_FILES = "flows.corpus.groups._MEAN_FILES"
SETTINGS = "from flows.corpus import groups; groups._MEAN_FILES = 8; "


def text_of(number: int) -> str:
    """From one to five windows."""
    return f"File {0 if number == COPY else number}. " + "words and words " * (13 * (number % 11))


@pytest.fixture(autouse=True)
def groups_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MEAN_FILES, 8)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Files in two folders; one is empty, one a copy of the first."""
    for number in range(FILES):
        write(tmp_path / "corpus", number, "" if number == EMPTY else text_of(number))
    return tmp_path / "corpus"


def write(corpus: Path, number: int, text: str) -> Path:
    path = corpus / "ab"[2 * number // FILES] / f"{number:02d}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def config(inputs: FlowInputs, corpus: Path, tmp_path: Path) -> RunConfig:
    return config_of(inputs, corpus, tmp_path / "workspace")


def config_of(inputs: FlowInputs, corpus: Path, workspace: Path, **keys: Any) -> RunConfig:
    return inputs.config(
        workspace,
        corpus={"files": [str(corpus)], "holdout": 0.3} | keys,
        windows={"max_bytes": 512, "windows_per_shard": 8},
    )


def undisturbed(config: RunConfig) -> Artifact:
    return build_windows(config.model_copy(update={"workspace": config.workspace.with_name("undisturbed")}))


def rows(windows: Artifact) -> list[dict[str, Any]]:
    return [row for index in range(len(windows)) for row in windows.table(index).to_pylist()]


def shards_per_group(windows: Artifact) -> list[int]:
    paths = sorted(windows.folder.glob("reading-?????.json"))
    return [read_group_reading(path).shards for path in paths]


def test_they_share_shards_and_their_windows_are_those_of_the_files_apart(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = build_windows(config)
    monkeypatch.setattr("flows.corpus.groups.LARGE_BYTES", 1)
    apart = undisturbed(config)
    assert rows(together) == rows(apart)
    assert len(shards_per_group(apart)) == FILES > 3 * len(shards_per_group(together)) > 9
    assert len(together) < len(apart)
    assert readings(together) == readings(apart)


def test_each_row_is_known_to_be_of_its_file(config: RunConfig) -> None:
    windows = build_windows(config)
    files = FileRows.of(windows)
    documents = [row["doc_id"] for row in rows(windows)]
    found = [name for index in range(len(windows)) for name in files.names(index)]
    assert max(len(set(files.names(index))) for index in range(len(windows))) > 2
    at = 0
    for reading, number in zip(readings(windows), range(FILES), strict=True):
        own = slice(at, at + reading.windows)
        assert reading.file == f"{'ab'[2 * number // FILES]}/{number:02d}.txt"
        assert set(found[own]) == ({reading.file} if number != EMPTY else set())
        assert len(set(documents[own])) == reading.documents == (number != EMPTY)
        assert all(files.at(row) == reading for row in range(own.start, own.stop))
        assert reading.bytes == (len(text_of(number)) if number != EMPTY else 0)
        assert reading.empty == (number == EMPTY)
        at = own.stop
    assert at == windows.rows == len(found)
    assert [files.first_in(index).file for index in range(len(windows))] == [
        files.names(index)[0] for index in range(len(windows))
    ]


def anew(windows: Artifact, before: Artifact) -> list[Path]:
    """The shards that no earlier artifact had."""
    there = {path.stat().st_ino for path in before.folder.glob("shard-*.arrow")}
    return [path for path in windows.folder.glob("shard-*.arrow") if path.stat().st_ino not in there]


class TestGrownCorpus:
    def test_a_file_more_among_two_thousand_makes_few_shards_anew(
        self, inputs: FlowInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.undo()  # groups as they are
        folder = tmp_path / "many"
        folder.mkdir()
        for number in range(2000):
            (folder / f"{number:04d}.txt").write_text(f"Text {number}.")
        config = config_of(inputs, folder, tmp_path / "workspace")
        before = build_windows(config)
        assert 4 < len(shards_per_group(before)) < 20
        (folder / "1000x.txt").write_text("A new text.")
        after = build_windows(config)
        assert after.rows == before.rows + 1 == 2001
        assert 0 < len(anew(after, before)) < 0.3 * len(after)

    @pytest.mark.parametrize("change", ["add", "remove", "change"])
    def test_one_file_makes_its_own_group_anew(self, config: RunConfig, corpus: Path, change: str) -> None:
        before = build_windows(config)
        if change == "remove":
            (corpus / "a" / "20.txt").unlink()
        else:
            (corpus / "a" / ("20.txt" if change == "change" else "20x.txt")).write_text("A new text.")
        after = build_windows(config)
        assert 0 < len(anew(after, before)) < 0.5 * len(after)
        assert shard_bytes(after.folder) == shard_bytes(undisturbed(config).folder)

    def test_files_that_get_other_names_keep_their_shards(
        self, config: RunConfig, corpus: Path, inputs: FlowInputs
    ) -> None:
        """Another file elsewhere makes all names longer, and where a folder is renamed its files are."""
        inner = config_of(inputs, corpus / "a", config.workspace)
        before = build_windows(inner)
        assert [reading.file for reading in readings(before)][:2] == ["00.txt", "01.txt"]
        after = build_windows(config)
        (corpus / "a").rename(corpus / "A")
        renamed = build_windows(config)
        for windows, name in ((after, "a/00.txt"), (renamed, "A/00.txt")):
            assert readings(windows)[0].file == name
            assert windows.path("shard-00000.arrow").samefile(before.path("shard-00000.arrow"))
        assert rows(renamed) == rows(after)
        assert readings(renamed) == readings(undisturbed(config))


class TestBadRows:
    @pytest.fixture
    def broken(self, corpus: Path) -> Path:
        path = write(corpus, BROKEN, "")
        path.write_bytes(b"no UTF-8: \xff")
        return path

    def test_they_are_told_of_their_file(
        self, config: RunConfig, broken: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        for times in (1, 2):  # made, then reused
            windows = build_windows(config)
            assert caplog.text.count("a/21.txt: left out 1 bad row(s) (1 not utf8)") == times
        assert [reading.file for reading in readings(windows) if reading.bad_rows] == ["a/21.txt"]

    def test_as_errors_they_name_their_file_though_its_shards_are_there(
        self, inputs: FlowInputs, config: RunConfig, corpus: Path, broken: Path
    ) -> None:
        strict = config_of(inputs, corpus, config.workspace, bad_rows="error")
        with pytest.raises(CorpusError, match=r"a/21\.txt: row 0 is not utf8.*repair the row"):
            build_windows(strict)
        build_windows(config)
        with pytest.raises(CorpusError, match=r"a/21\.txt: row 0 is not utf8.*repair the row"):
            build_windows(strict)
        write(corpus, FILES - 1, "a grown corpus")
        with pytest.raises(CorpusError, match=r"a/21\.txt: row 0 is not utf8.*repair the row"):
            build_windows(strict)


class TestInterrupted:
    def test_a_file_that_changes_while_it_is_read_leaves_nothing_of_its_group(
        self, config: RunConfig, corpus: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def change_then_read(file: SourceFile, bad_rows: BadRows) -> Iterator[Document]:
            if file.name == "a/21.txt":
                write(corpus, 21, "other text")
            return read_documents(file, bad_rows)

        with monkeypatch.context() as patch:
            patch.setattr("flows.stages.group_reader.read_documents", change_then_read)
            with pytest.raises(CorpusError, match=r"21\.txt changed while it was read: run the command again"):
                build_windows(config)
        write(corpus, 21, text_of(21))
        assert shard_bytes(build_windows(config).folder) == shard_bytes(undisturbed(config).folder)

    def test_a_killed_process_leaves_whole_groups(
        self, config: RunConfig, prefect_server: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        whole = undisturbed(config)
        shards = shards_per_group(whole)
        group = next(index for index, count in enumerate(shards) if index > 0 and count > 1)
        done = sum(shards[:group])
        call = SETTINGS + "from flows.stages.windows import build_windows; build_windows(config)"
        # At the second shard of the group; a reading and its receipt are two.
        run_and_die(config, call, done + 2 * group + 2, prefect_server)
        folder = config.workspace / "windows" / whole.folder.name
        left = {path.name: path.stat().st_ino for path in folder.glob("shard-*.arrow")}
        assert len(left) == done + 2
        caplog.clear()
        resumed = build_windows(config)
        assert resumed.manifest.files == whole.manifest.files
        assert shard_bytes(resumed.folder) == shard_bytes(whole.folder)
        kept = [name for name, inode in left.items() if (folder / name).stat().st_ino == inode]
        assert len(kept) == done + 1
        assert caplog.text.count("windows: reused") == group + 1

    def test_a_damaged_shard_alone_is_made_again(self, config: RunConfig) -> None:
        made = build_windows(config)
        before = shard_bytes(made.folder)
        inodes = {path.name: path.stat().st_ino for path in made.folder.glob("shard-*.arrow")}
        flip_a_byte(made.path("shard-00004.arrow"))
        again = build_windows(config)
        assert (again.manifest.files, shard_bytes(again.folder)) == (made.manifest.files, before)
        changed = [path.name for path in made.folder.glob("shard-*.arrow") if path.stat().st_ino != inodes[path.name]]
        assert changed == ["shard-00004.arrow"]
