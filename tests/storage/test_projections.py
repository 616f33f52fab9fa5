from pathlib import Path

import numpy as np
import pytest
from fakes import fake_vocabulary
from safetensors.numpy import save

from storage.artifact import ArtifactSpec, ArtifactWriter, read_table
from storage.errors import ArtifactError
from storage.projections import KIND, TABLE, TENSORS, load_projection, projection_bytes, projection_table
from storage.schemas import PROJECTION
from xtoken_core.projection import Projection, Rule
from xtoken_core.vocabulary import Vocabulary

STUDENT = fake_vocabulary(["<s>", b"the", b"cat", None])
TEACHER = fake_vocabulary(["<bos>", b"ca", b"t", b"the"])
EMPTY = Rule.EMPTY
W = Projection(
    indices=np.array([[0, -1], [3, -1], [1, 2], [-1, -1]], dtype=np.int32),
    weights=np.array([[1, 0], [1, 0], [0.9, 0.1], [0, 0]], dtype=np.float32),
    rules=np.array(
        [[Rule.SPECIAL, EMPTY], [Rule.EXACT, EMPTY], [Rule.MULTI_TOKEN, Rule.REVERSE], [EMPTY, EMPTY]], dtype=np.int8
    ),
)
NOTHING = Projection(np.full((2, 2), -1, np.int32), np.zeros((2, 2), np.float32), np.full((2, 2), EMPTY, np.int8))


def store(folder: Path, projection: Projection) -> None:
    writer = ArtifactWriter(folder, ArtifactSpec(KIND, 1, {}))
    tensors = writer.write_bytes(TENSORS, "key", projection_bytes(projection, STUDENT, TEACHER))
    table = writer.write_table(TABLE, "key", projection_table(projection, STUDENT, TEACHER))
    writer.finish([tensors, table])


def assert_same(found: Projection, expected: Projection) -> None:
    for name in ("indices", "weights", "rules"):
        one, other = getattr(found, name), getattr(expected, name)
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)


@pytest.mark.parametrize("projection", [W, NOTHING], ids=["small", "nothing"])
def test_a_projection_survives_storing(tmp_path: Path, projection: Projection) -> None:
    store(tmp_path, projection)
    assert_same(load_projection(tmp_path, STUDENT, TEACHER), projection)


def test_columns_in_another_order_of_memory_survive(tmp_path: Path) -> None:
    store(tmp_path, Projection(*(np.asfortranarray(part) for part in (W.indices, W.weights, W.rules))))
    assert_same(load_projection(tmp_path, STUDENT, TEACHER), W)


def test_a_part_of_a_larger_array_survives(tmp_path: Path) -> None:
    parts = (np.repeat(part, 2, axis=1)[:, ::2] for part in (W.indices, W.weights, W.rules))
    store(tmp_path, Projection(*parts))
    assert_same(load_projection(tmp_path, STUDENT, TEACHER), W)


def test_the_table_has_a_row_for_every_entry(tmp_path: Path) -> None:
    store(tmp_path, W)
    table = read_table(tmp_path / TABLE)
    assert table.schema == PROJECTION
    rows = [tuple(row.values()) for row in table.to_pylist()]
    assert rows == [
        (0, "<s>", 0, "<bos>", 1.0, "special"),
        (1, "the", 3, "the", 1.0, "exact"),
        (2, "cat", 1, "ca", pytest.approx(0.9), "multi_token"),
        (2, "cat", 2, "t", pytest.approx(0.1), "reverse"),
    ]


def test_a_projection_without_entries_has_an_empty_table() -> None:
    assert projection_table(NOTHING, STUDENT, TEACHER).num_rows == 0


def test_a_damaged_projection_is_an_error(tmp_path: Path) -> None:
    store(tmp_path, W)
    (tmp_path / TENSORS).write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"projection.safetensors has 0 bytes"):
        load_projection(tmp_path, STUDENT, TEACHER)


@pytest.mark.parametrize(("side", "vocabularies"), [("student", (TEACHER, TEACHER)), ("teacher", (STUDENT, STUDENT))])
def test_a_projection_of_other_vocabularies_is_refused(
    tmp_path: Path, side: str, vocabularies: tuple[Vocabulary, Vocabulary]
) -> None:
    store(tmp_path, W)
    made_for, in_use = (STUDENT, TEACHER) if side == "student" else (TEACHER, STUDENT)
    with pytest.raises(ArtifactError, match=f"{side} vocabulary {made_for.fingerprint}, .* {in_use.fingerprint}: run"):
        load_projection(tmp_path, *vocabularies)


def test_a_projection_without_fingerprints_is_refused(tmp_path: Path) -> None:
    writer = ArtifactWriter(tmp_path, ArtifactSpec(KIND, 1, {}))
    tensors = {"indices": W.indices, "weights": W.weights, "rules": W.rules}
    writer.finish([writer.write_bytes(TENSORS, "key", save(tensors))])
    with pytest.raises(ArtifactError, match="student vocabulary None"):
        load_projection(tmp_path, STUDENT, TEACHER)


def test_a_file_without_the_tensors_is_refused(tmp_path: Path) -> None:
    writer = ArtifactWriter(tmp_path, ArtifactSpec(KIND, 1, {}))
    writer.finish([writer.write_bytes(TENSORS, "key", save({"indices": W.indices}))])
    with pytest.raises(ArtifactError, match=r"cannot read .*run `xtoken build-projection` again"):
        load_projection(tmp_path, STUDENT, TEACHER)


def test_the_same_projection_is_the_same_file() -> None:
    assert len({projection_bytes(W, STUDENT, TEACHER) for _ in range(20)}) == 1
