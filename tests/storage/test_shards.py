"""Shards of an artifact are read one after another, whatever their number; of those that were read a few stay open."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from open_files import mapped_in

from storage.artifact import Artifact, ArtifactSpec, ArtifactWriter, shard_name
from storage.errors import ArtifactError
from storage.shards import Shards, column, tables_of

ROWS = [3, 1, 0, 4, 2, 2, 5, 1, 3]
OPEN = 2


@pytest.fixture
def artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    monkeypatch.setattr("storage.shards.OPEN_AT_ONCE", OPEN)
    writer = ArtifactWriter(tmp_path, ArtifactSpec("numbers", 1, {}))
    ends = np.cumsum(ROWS)
    tables = [pa.table({"n": np.arange(end - rows, end)}) for end, rows in zip(ends, ROWS, strict=True)]
    return writer.finish([writer.write_table(shard_name(i), str(i), table) for i, table in enumerate(tables)])


def test_a_column_of_all_shards_leaves_few_of_them_open(artifact: Artifact) -> None:
    tables = tables_of(artifact)
    found = column(tables, "n", np.int32)
    assert (found.dtype, found.tolist()) == (np.int32, [*range(sum(ROWS))])
    assert mapped_in(artifact.folder) == OPEN


def test_what_was_read_last_is_not_read_again(artifact: Artifact) -> None:
    read: list[int] = []
    shards = Shards(artifact.folder, artifact.manifest.shards, lambda table: read.append(table.num_rows))
    for index in (0, 1, 0, 3, 0, 1):
        shards[index]
    assert read == [3, 1, 4, 1]


def test_shards_count_and_come_in_order(artifact: Artifact) -> None:
    tables = tables_of(artifact)
    assert (len(tables), tables.rows) == (len(ROWS), ROWS)
    assert [table.num_rows for table in tables] == ROWS
    with pytest.raises(IndexError):
        tables[len(ROWS)]


def test_an_artifact_without_shards_has_empty_columns(tmp_path: Path) -> None:
    empty = ArtifactWriter(tmp_path, ArtifactSpec("numbers", 1, {})).finish([])
    assert column(tables_of(empty), "n", np.uint64).shape == (0,)


def test_a_shard_that_is_gone_is_said_when_it_is_read(artifact: Artifact) -> None:
    tables = tables_of(artifact)
    artifact.path(shard_name(3)).unlink()
    assert tables[1].num_rows == 1
    with pytest.raises(ArtifactError, match=r"cannot read .*shard-00003\.arrow"):
        tables[3]
