from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tiny_workspace import HELDOUT_EVERY, SHARDS, WINDOWS_PER_SHARD, TinyWorkspace, with_sources, write_artifact

from storage.errors import ArtifactError
from trainer.windows import StudentWindows


@pytest.fixture
def student(tiny: TinyWorkspace) -> StudentWindows:
    return StudentWindows.open(tiny.windows.folder, tiny.student_tokens.folder)


def test_windows_are_split_by_document_and_length(tiny: TinyWorkspace, student: StudentWindows) -> None:
    heldout, skipped = student.heldout(max_length=1000)
    assert (len(student.train(1000)), len(heldout), skipped) == (24, 8, 0)
    assert not set(student.train(1000).window_ids) & set(heldout.window_ids)
    longest = int(heldout.lengths.max())
    fewer, skipped = student.heldout(longest - 1)
    assert len(fewer) + skipped == len(heldout)
    assert skipped >= 1
    assert student.train(40).lengths.max() <= 40
    assert len(heldout) == SHARDS * WINDOWS_PER_SHARD // HELDOUT_EVERY


def test_rows_are_read_in_the_order_asked_for(tiny: TinyWorkspace, student: StudentWindows) -> None:
    windows = student.everything.take(np.array([20, 3, 31, 3]))
    ids, mask = student.tokens(windows)
    expected = [
        tiny.student_tokens.table(i // WINDOWS_PER_SHARD)["ids"][i % WINDOWS_PER_SHARD].as_py() for i in (20, 3, 31, 3)
    ]
    assert [row.tolist() for row in ids] == expected
    assert [len(row) for row in mask] == windows.lengths.tolist()
    assert mask.values.all()


def test_longest_first_and_ties_in_a_fixed_order(student: StudentWindows) -> None:
    shuffled = student.everything.take(np.random.default_rng(0).permutation(32))
    ordered = shuffled.by_length()
    assert (np.diff(ordered.lengths) <= 0).all()
    assert np.array_equal(ordered.window_ids, student.everything.by_length().window_ids)


def test_a_window_of_one_token_is_neither_trained_nor_scored(tmp_path: Path, tiny: TinyWorkspace) -> None:
    windows = tiny.windows.table(0).slice(0, 2)
    columns = [windows["window_id"], [[5], [6]], [[True], [True]], [[], []], [[], []]]
    tokens = pa.table(columns, schema=tiny.student_tokens.table(0).schema)
    write_artifact(tmp_path / "w", "windows", [windows])
    write_artifact(tmp_path / "t", "tokens", [tokens])
    student = StudentWindows.open(tmp_path / "w", tmp_path / "t")
    assert len(student.train(10)) == 0
    assert len(student.heldout(10)[0]) == 0


@pytest.mark.parametrize("shards", [[1, 0], [0], [0, 0]])
def test_tokens_of_other_windows_are_refused(tmp_path: Path, tiny: TinyWorkspace, shards: list[int]) -> None:
    write_artifact(tmp_path / "tokens", "tokens", [tiny.student_tokens.table(i) for i in shards])
    with pytest.raises(ArtifactError, match="hold different windows") as error:
        StudentWindows.open(tiny.windows.folder, tmp_path / "tokens")
    assert str(tiny.windows.folder) in str(error.value)
    assert str(tmp_path / "tokens") in str(error.value)


def test_each_window_knows_its_source(tmp_path: Path, tiny: TinyWorkspace) -> None:
    names = [["b", "a"] * 8, ["c"] * 15 + ["a"]]
    tables = [with_sources(tiny.windows.table(shard), names[shard]) for shard in range(2)]
    write_artifact(tmp_path, "windows", tables)
    student = StudentWindows.open(tmp_path, tiny.student_tokens.folder)
    assert sorted(student.source_names) == ["a", "b", "c"]
    found = [student.source_names[code] for code in student.everything.take(np.array([30, 31, 0, 1])).sources]
    assert found == ["c", "a", "b", "a"]
