import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tiny_workspace import TEACHER_MAX_LENGTH, TinyWorkspace, write_artifact

from storage.artifact import Artifact
from storage.columns import from_list_column
from storage.errors import ArtifactError
from trainer.errors import DataError
from trainer.teachers import TeacherData, TeacherRows
from trainer.windows import StudentWindows


@pytest.fixture
def student(tiny: TinyWorkspace) -> StudentWindows:
    return StudentWindows.open(tiny.windows.folder, tiny.student_tokens.folder)


def read_all(teacher: TeacherData, student: StudentWindows) -> TeacherRows:
    rows = teacher.read(student.everything, *student.tokens(student.everything))
    assert rows is not None
    return rows


def changed(artifact: Artifact, folder: Path, kind: str, column: str, values: Any) -> Path:
    """A sound artifact whose first shard has other values in one column."""
    first = artifact.table(0)
    index = first.schema.get_field_index(column)
    tables = [first.set_column(index, first.schema.field(column), values), artifact.table(1)]
    return write_artifact(folder, kind, tables).folder


def test_windows_without_records_are_left_out(tiny: TinyWorkspace, student: StudentWindows) -> None:
    rows = read_all(TeacherData.open(tiny.prefix_kl_teacher(), student), student)
    lengths = np.concatenate([from_list_column(tiny.alignments.table(i)["teacher_ids"]).lengths for i in range(2)])
    assert np.array_equal(rows.row, np.flatnonzero(lengths <= TEACHER_MAX_LENGTH))
    assert 0 < len(rows.row) < 32
    assert len(rows.alignment) == len(rows.row) == len(rows.loss_mask)


def test_records_come_back_for_any_window_and_position(tiny: TinyWorkspace, student: StudentWindows) -> None:
    teacher = TeacherData.open(tiny.prefix_kl_teacher(), student)
    rows = read_all(teacher, student)
    which, positions = np.array([len(rows.row) - 1, 0, 3, len(rows.row) - 2]), np.array([5, 0, 2, 1])
    records = teacher.records(rows, which, positions)
    for i in range(4):
        alone = teacher.records(rows, which[i : i + 1], positions[i : i + 1])
        assert np.array_equal(records.topk_ids[i], alone.topk_ids[0])
    assert np.allclose(
        np.exp(records.topk_logprob).sum(1) + np.exp(records.topk_hidden_logmass).sum(1) + np.exp(records.rest_logmass),
        1,
    )
    assert len({tuple(ids) for ids in records.topk_ids.tolist()}) > 1


def test_a_window_that_no_teacher_window_matches_gives_nothing(tiny: TinyWorkspace, student: StudentWindows) -> None:
    teacher = TeacherData.open(tiny.prefix_kl_teacher(), student)
    missing = student.everything.take(teacher.cache.find(student.everything.window_ids) < 0)
    assert teacher.read(missing, *student.tokens(missing)) is None


def test_records_of_other_teacher_ids_are_refused(tmp_path: Path, tiny: TinyWorkspace, student: StudentWindows) -> None:
    hashes = tiny.cache.table(0)["ids_hash"].to_numpy().copy()
    hashes[-1] ^= 1
    cache = changed(tiny.cache, tmp_path / "cache", "cache", "ids_hash", pa.array(hashes))
    teacher = TeacherData.open(tiny.prefix_kl_teacher(cache=cache), student)
    with pytest.raises(ArtifactError, match="made from other token ids") as error:
        read_all(teacher, student)
    assert str(cache) in str(error.value)
    assert str(tiny.alignments.folder) in str(error.value)
    assert "cache-teacher" in str(error.value)


def test_an_alignment_of_other_student_ids_is_refused(
    tmp_path: Path, tiny: TinyWorkspace, student: StudentWindows
) -> None:
    ids = tiny.alignments.table(0)["student_ids"].to_pylist()
    ids[0][3] += 1
    alignments = changed(
        tiny.alignments, tmp_path / "alignments", "alignments", "student_ids", pa.array(ids, pa.list_(pa.int32()))
    )
    with pytest.raises(ArtifactError, match="other student ids"):
        read_all(TeacherData.open(tiny.prefix_kl_teacher(alignments=alignments), student), student)


def test_records_beyond_the_vocabulary_are_refused(tiny: TinyWorkspace, student: StudentWindows) -> None:
    inputs = tiny.prefix_kl_teacher(vocabulary=tiny.root / "vocabularies" / "student")
    teacher = TeacherData.open(inputs, student)
    rows = read_all(teacher, student)
    with pytest.raises(ArtifactError, match=r"but .* ends at 399"):
        teacher.records(rows, np.repeat(np.arange(10), 10), np.tile(np.arange(10), 10))


def test_a_damaged_shard_is_noticed(tmp_path: Path, tiny: TinyWorkspace, student: StudentWindows) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(tiny.cache.folder, cache)
    shard = cache / "shard-00001.arrow"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"shard-00001\.arrow has checksum"):
        TeacherData.open(tiny.prefix_kl_teacher(cache=cache), student)


def test_p_kl_asks_for_the_whole_distribution(tiny: TinyWorkspace, student: StudentWindows) -> None:
    with pytest.raises(DataError, match="keeps 8 of 600 tokens: cache it with k = 600"):
        TeacherData.open(tiny.p_kl_teacher(cache=tiny.cache.folder), student)
    with pytest.raises(DataError, match="needs a projection"):
        TeacherData.open(tiny.p_kl_teacher(projection=None), student)
    TeacherData.open(tiny.p_kl_teacher(), student)
