"""The `.pt` form of the published tools; the files are made here as those tools make them."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from fakes import fake_vocabulary, reproducible
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import ArtifactError
from storage.nemo_projections import NemoProjection, read_nemo, write_nemo
from xtoken_core.projection import Projection, Rule

STUDENT = fake_vocabulary([b"the", b"cat", b"on", "<s>"])
TEACHER = fake_vocabulary(["<bos>", b"ca", b"t", b"the", b"on"])
INDICES = [[3, -1, -1], [2, 1, 4], [4, 3, 0], [0, -1, -1]]
LIKELIHOODS = [[1.0, 0, 0], [0.1, 0.9, 0.2], [0.8, 0.2, 0.0], [1.0, 0, 0]]


def dense(**changes: Any) -> dict[str, Any]:
    names = {"student_model_id": "org/student", "teacher_model_id": "org/teacher", "enable_scale_trick": False}
    return {"indices": torch.tensor(INDICES), "likelihoods": torch.tensor(LIKELIHOODS)} | names | changes


@pytest.fixture
def stored(tmp_path: Path) -> Callable[[Any], Path]:
    def store(data: Any) -> Path:
        torch.save(data, tmp_path / "map.pt")
        return tmp_path / "map.pt"

    return store


Store = Callable[[Any], Path]


def rows(projection: Projection) -> list[dict[int, float]]:
    pairs = [
        zip(*row, strict=True) for row in zip(projection.indices.tolist(), projection.weights.tolist(), strict=True)
    ]
    return [{j: pytest.approx(w, abs=1e-6) for j, w in row if j >= 0} for row in pairs]


def test_the_dense_form(stored: Store) -> None:
    found = read_nemo(stored(dense()), STUDENT, TEACHER)
    assert (found.student_name, found.teacher_name, found.projection.has_scale_slot) == (
        "org/student",
        "org/teacher",
        False,
    )
    assert found.projection.indices.tolist() == [[3, -1, -1], [1, 4, 2], [4, 3, -1], [0, -1, -1]]
    assert rows(found.projection) == [{3: 1}, {1: 0.75, 4: 1 / 6, 2: 1 / 12}, {4: 0.8, 3: 0.2}, {0: 1}]
    first = found.projection.rules[:, 0].tolist()
    assert first == [Rule.EXACT, Rule.IMPORTED, Rule.IMPORTED, Rule.IMPORTED]


def test_older_names(stored: Store) -> None:
    data = dense(model_A_id="a", model_B_id="b")
    del data["student_model_id"], data["teacher_model_id"], data["enable_scale_trick"]
    found = read_nemo(stored(data), STUDENT, TEACHER)
    assert (found.student_name, found.teacher_name, found.projection.has_scale_slot) == ("a", "b", False)


def test_the_sparse_form(stored: Store) -> None:
    counts = {(1, 2): 0.5, (1, 1): 1.5, (0, 3): 2, (2, 4): 0.0}
    found = read_nemo(stored(counts), STUDENT, TEACHER)
    assert (found.student_name, found.teacher_name) == (None, None)
    assert rows(found.projection) == [{3: 1}, {1: 0.75, 2: 0.25}, {}, {}]
    assert found.projection.rules[0, 0] == Rule.EXACT


def test_the_scale_slot_is_emptied(stored: Store) -> None:
    found = read_nemo(stored(dense(enable_scale_trick=True)), STUDENT, TEACHER)
    assert found.projection.has_scale_slot
    assert found.projection.indices.tolist() == [[3, -1, -1], [1, 2, -1], [4, 3, -1], [0, -1, -1]]
    assert rows(found.projection)[1] == {1: 0.9, 2: 0.1}


def test_padding_behind_the_last_token_is_left_out(stored: Store) -> None:
    indices, likelihoods = torch.tensor([*INDICES, [0, 1, 2]]), torch.tensor([*LIKELIHOODS, [0.0, 0, 0]])
    found = read_nemo(stored(dense(indices=indices, likelihoods=likelihoods)), STUDENT, TEACHER)
    assert found.projection.indices.shape == (4, 3)
    assert (
        len(
            read_nemo(
                stored(dense(indices=indices[:3], likelihoods=likelihoods[:3])), STUDENT, TEACHER
            ).projection.indices
        )
        == 4
    )


weights = st.lists(st.lists(st.sampled_from([0.0, 0.1, 0.25, 1.0]), min_size=5, max_size=5), min_size=4, max_size=4)


@reproducible
@given(weights, st.booleans())
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, matrix: Any, slot: bool) -> None:
    path = tmp_path_factory.mktemp("nemo") / "map.pt"
    matrix[0][3] = 1.0  # a file without any weight is refused
    torch.save({(i, j): w for i, row in enumerate(matrix) for j, w in enumerate(row)}, path)
    first = read_nemo(path, STUDENT, TEACHER).projection
    if slot:
        first = Projection(
            *(
                np.pad(part, ((0, 0), (0, 1)), constant_values=v)
                for part, v in zip(vars(first).values(), (-1, 0, -1), strict=True)
            )
        )
    write_nemo(path, NemoProjection(first, "s", "t"))
    again = read_nemo(path, STUDENT, TEACHER)
    assert rows(again.projection) == rows(first)
    assert (again.student_name, again.teacher_name, again.projection.has_scale_slot) == ("s", "t", slot)
    assert (again.projection.rules[:, 0] == first.rules[:, 0]).all()


def test_what_is_written_is_what_the_published_loss_reads(tmp_path: Path) -> None:
    one_column = Projection(
        *(
            np.array(part, dtype=d)
            for part, d in (([[3], [1]], np.int32), ([[1], [1]], np.float32), ([[0], [0]], np.int8))
        )
    )
    write_nemo(tmp_path / "map.pt", NemoProjection(one_column))
    data = torch.load(tmp_path / "map.pt", weights_only=True)
    assert data["indices"].tolist() == [[3, -1], [1, -1]]  # it looks at the second column to find exact rows
    assert data["likelihoods"].tolist() == [[1, 0], [1, 0]]
    assert (data["indices"].dtype, data["likelihoods"].dtype) == (torch.int64, torch.float32)
    assert data["enable_scale_trick"] is False


class Code:
    """Unpickled by a careless reader it would make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_code_is_not_run(stored: Store, tmp_path: Path) -> None:
    path = stored(dense(comment=Code(tmp_path / "made")))
    with pytest.raises(ArtifactError, match="could run code, so it is not read"):
        read_nemo(path, STUDENT, TEACHER)
    assert not (tmp_path / "made").exists()


BAD = {
    "a tensor": (torch.zeros(4, 5), "holds a Tensor: expected a dict"),
    "an empty dict": ({}, "holds a dict: expected"),
    "no tensors": (dense(indices=INDICES), "that are no tensors"),
    "other keys": ({"weights": 1.0}, "a dict with keys like 'weights'"),
    "triples": ({(1, 2, 3): 0.5, (1, 2, 4): 0.5}, "are no pairs of ids"),
    "as many numbers as pairs": ({(1, 2, 3, 4): 0.5, (): 0.5}, r"keys like '\(1, 2, 3, 4\)'"),
    "written numbers": ({("1", "2"): 0.5}, "are no pairs of ids"),
    "pairs and a name": ({(1, 2): 0.5, "x": 1}, r"keys like '\(1, 2\)'"),
    "several weights of a pair": ({(1, 2): torch.tensor([0.5, 0.2])}, r"keys like '\(1, 2\)'"),
    "a huge id": ({(1, 2**70): 0.5}, "ids that are no whole numbers of 64 bits: save token ids as int64"),
    "half an id in a pair": ({(1, 2.5): 0.5}, "ids that are no whole numbers"),
    "half an id": (dense(indices=torch.tensor(INDICES) + 0.5), "ids that are no whole numbers"),
    "ids that are not a number": (dense(indices=torch.full((4, 3), torch.nan)), "ids that are no whole numbers"),
    "complex": (dense(likelihoods=torch.tensor(LIKELIHOODS) * 1j), "likelihoods of torch.complex64 that are no plain"),
    "no numbers": (dense(likelihoods=torch.ones(4, 3, device="meta")), "save indices as int64 and likelihoods as"),
    "several slots": (dense(enable_scale_trick=torch.tensor([True, False])), "several values for enable_scale_trick"),
    "zeros": (dense(likelihoods=torch.zeros(4, 3)), "no weight above zero, the projection would be empty"),
    "pairs of zeros": ({(1, 2): 0.0}, "no weight above zero"),
    "other shapes": (dense(indices=torch.tensor(INDICES)[:, :2]), r"shape \[4, 2\] and likelihoods of shape \[4, 3\]"),
    "only a slot": (
        dense(indices=torch.zeros(4, 1), likelihoods=torch.zeros(4, 1), enable_scale_trick=True),
        "k at least 2",
    ),
    "not a number": (dense(likelihoods=torch.full((4, 3), torch.nan)), "negative or no numbers"),
    "a small student": (
        dense(indices=torch.tensor(INDICES)[:2], likelihoods=torch.tensor(LIKELIHOODS)[:2]),
        "has 2 rows",
    ),
    "a large student": ({(4, 1): 1.0}, "student ids 0 to 4, but the student's vocabulary has 0 to 3"),
    "a large teacher": (dense(indices=torch.tensor(INDICES) + 2), "teacher ids 0 to 6, but the teacher's"),
    "a negative id": (dense(indices=torch.tensor(INDICES) - 3), "teacher ids -3 to"),
    "too wide": (
        dense(indices=torch.zeros(4, 6), likelihoods=torch.ones(4, 6)),
        "rows of 6 entries, but the teacher's",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_files_that_are_no_projection_of_these_two(stored: Store, name: str) -> None:
    data, message = BAD[name]
    with pytest.raises(ArtifactError, match=message):
        read_nemo(stored(data), STUDENT, TEACHER)


@pytest.mark.filterwarnings("ignore:.*quant:UserWarning")
def test_quantised_tensors(stored: Store) -> None:
    quantised = torch.quantize_per_tensor(torch.tensor(LIKELIHOODS), 0.1, 0, torch.quint8)
    with pytest.raises(ArtifactError, match=r"likelihoods of torch\.quint8 .*save .* likelihoods as float32"):
        read_nemo(stored(dense(likelihoods=quantised)), STUDENT, TEACHER)


SAME = {
    "learnt": dense(likelihoods=torch.nn.Parameter(torch.tensor(LIKELIHOODS))),
    "sparse": dense(likelihoods=torch.tensor(LIKELIHOODS).to_sparse()),
    "double": dense(likelihoods=torch.tensor(LIKELIHOODS).double()),
    "whole floats": dense(indices=torch.tensor(INDICES).bfloat16()),
    "one flag": dense(enable_scale_trick=torch.tensor([False])),
}


@pytest.mark.parametrize("name", SAME)
def test_other_kinds_of_tensors(stored: Store, name: str) -> None:
    expected = rows(read_nemo(stored(dense()), STUDENT, TEACHER).projection)
    assert rows(read_nemo(stored(SAME[name]), STUDENT, TEACHER).projection) == expected


def test_the_older_form_of_torch_files(tmp_path: Path) -> None:
    torch.save(dense(), tmp_path / "map.pt", _use_new_zipfile_serialization=False)
    assert read_nemo(tmp_path / "map.pt", STUDENT, TEACHER).student_name == "org/student"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist"):
        read_nemo(tmp_path / "none.pt", STUDENT, TEACHER)
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_nemo(tmp_path, STUDENT, TEACHER)


def test_damaged_files(stored: Store) -> None:
    path = stored(dense())
    whole = path.read_bytes()
    for content in (b"PK\x03\x04 broken", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match=r"map\.pt cannot be read .*: copy or make it again"):
            read_nemo(path, STUDENT, TEACHER)


def test_files_that_torch_did_not_write(tmp_path: Path) -> None:
    path = tmp_path / "bad.pt"
    tensors = safetensors.torch.save({"indices": torch.tensor(INDICES), "likelihoods": torch.tensor(LIKELIHOODS)})
    for content in (b"", b"hello world", tensors, pickle.dumps({(1, 2): 0.5})):
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match=r"bad\.pt is no file of torch\.save: give a \.pt file"):
            read_nemo(path, STUDENT, TEACHER)
