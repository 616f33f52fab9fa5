import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tiny_workspace import TEACHER_MAX_LENGTH, TinyWorkspace, write_artifact

from storage.artifact import Artifact
from storage.columns import from_list_column
from storage.errors import ArtifactError
from trainer.errors import DataError
from trainer.opened import open_job
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
    rows = read_all(TeacherData.open(tiny.prefix_kl_teacher(), student, tiny.student.vocabulary), student)
    lengths = np.concatenate([from_list_column(tiny.alignments.table(i)["teacher_ids"]).lengths for i in range(2)])
    firsts = np.cumsum(student.everything.lengths) - student.everything.lengths
    assert np.array_equal(rows.first_token, firsts[lengths <= TEACHER_MAX_LENGTH])
    assert 0 < len(rows.place) < 32
    assert len(rows.alignment) == len(rows.place) == len(rows.loss_mask)


def test_records_come_back_for_any_window_and_position(tiny: TinyWorkspace, student: StudentWindows) -> None:
    teacher = TeacherData.open(tiny.prefix_kl_teacher(), student, tiny.student.vocabulary)
    rows = read_all(teacher, student)
    which, positions = np.array([len(rows.place) - 1, 0, 3, len(rows.place) - 2]), np.array([5, 0, 2, 1])
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
    teacher = TeacherData.open(tiny.prefix_kl_teacher(), student, tiny.student.vocabulary)
    missing = student.everything.take(teacher.cache.find(student.everything.window_ids) < 0)
    assert teacher.read(missing, *student.tokens(missing)) is None


UNTAUGHT = (16, 4)  # the first windows of each shard


@pytest.mark.parametrize("loss", ["prefix_kl", "p_kl"])
def test_a_source_that_a_teacher_does_not_teach_adds_nothing_to_its_term(
    tmp_path: Path, tiny: TinyWorkspace, loss: str
) -> None:
    """Its windows have no teacher tokens, no chunks and no records: here a whole shard, and a part of another."""
    whole = tiny.prefix_kl_teacher() if loss == "prefix_kl" else tiny.p_kl_teacher()
    cache = tiny.cache if loss == "prefix_kl" else tiny.full_cache
    taught = whole.model_copy(
        update={
            "alignments": write_artifact(
                tmp_path / "a", "alignments", [silent(tiny, shard) for shard in (0, 1)]
            ).folder,
            "cache": write_artifact(tmp_path / "c", "cache", [untold(tiny, cache, shard) for shard in (0, 1)]).folder,
        }
    )
    opened = open_job(tiny.job("unused", [taught], batch_windows=24, micro_batch_windows=24))
    (found,) = opened.batches(student_rows=400).step(1, 0, 1).plans
    is_taught = (opened.windows.shards == 1) & (opened.windows.rows >= UNTAUGHT[1])
    plain = open_job(tiny.job("unused", [whole])).batches(student_rows=400)
    alone = plain.plan(opened.windows.take(is_taught), np.arange(is_taught.sum()))
    assert found.terms[0].count == alone.terms[0].count > 0
    assert len(found.predictions.targets) == opened.windows.lengths.sum() - len(opened.windows)
    untaught = opened.windows.take(~is_taught)
    assert opened.batches(student_rows=400).plan(untaught, np.arange(len(untaught))).terms == (None,)


def silent(tiny: TinyWorkspace, shard: int) -> pa.Table:
    """An alignments shard whose first rows have no teacher tokens."""
    table = tiny.alignments.table(shard)
    rows = table.to_pylist()
    lists = ("teacher_ids", "student_chunk_ends", "teacher_chunk_ends", "chunk_exact", "chunk_kind")
    numbers = ("n_chunks", "n_exact", "n_exact_bytes", "student_chunk_start0", "teacher_chunk_start0")
    for row in rows[: UNTAUGHT[shard]]:
        row |= {name: [] for name in lists} | dict.fromkeys(numbers, 0)
    return pa.Table.from_pylist(rows, schema=table.schema)


def untold(tiny: TinyWorkspace, cache: Artifact, shard: int) -> pa.Table:
    """A cache shard without the first windows."""
    table = cache.table(shard)
    gone = tiny.alignments.table(shard)["window_id"].slice(0, UNTAUGHT[shard])
    return table.filter(pc.invert(pc.is_in(table["window_id"], gone.combine_chunks()))).combine_chunks()


def test_records_of_other_teacher_ids_are_refused(tmp_path: Path, tiny: TinyWorkspace, student: StudentWindows) -> None:
    hashes = tiny.cache.table(0)["ids_hash"].to_numpy().copy()
    hashes[-1] ^= 1
    cache = changed(tiny.cache, tmp_path / "cache", "cache", "ids_hash", pa.array(hashes))
    teacher = TeacherData.open(tiny.prefix_kl_teacher(cache=cache), student, tiny.student.vocabulary)
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
        read_all(
            TeacherData.open(tiny.prefix_kl_teacher(alignments=alignments), student, tiny.student.vocabulary), student
        )


def test_records_beyond_the_vocabulary_are_refused(tiny: TinyWorkspace, student: StudentWindows) -> None:
    inputs = tiny.prefix_kl_teacher(vocabulary=tiny.root / "vocabularies" / "student")
    teacher = TeacherData.open(inputs, student, tiny.student.vocabulary)
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
        TeacherData.open(tiny.prefix_kl_teacher(cache=cache), student, tiny.student.vocabulary)


def test_p_kl_asks_for_the_whole_distribution(tiny: TinyWorkspace, student: StudentWindows) -> None:
    with pytest.raises(DataError, match=r"p_kl needs whole .* keeps 8 of 600 tokens .* k = 600, or use"):
        TeacherData.open(tiny.p_kl_teacher(cache=tiny.cache.folder), student, tiny.student.vocabulary)
    with pytest.raises(DataError, match=r"vocab_topk 50 of direct_kl needs whole .* of 400 tokens .* or remove it"):
        TeacherData.open(tiny.direct_kl_teacher(vocab_topk=50), student, tiny.student.vocabulary)
    with pytest.raises(DataError, match="needs a projection"):
        TeacherData.open(tiny.p_kl_teacher(projection=None), student, tiny.student.vocabulary)
    TeacherData.open(tiny.p_kl_teacher(), student, tiny.student.vocabulary)
