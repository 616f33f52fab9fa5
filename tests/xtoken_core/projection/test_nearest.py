import numpy as np
import pytest
from oracles_projection import nearest

from xtoken_core.projection import NearestSettings, Rule
from xtoken_core.projection import nearest as module
from xtoken_core.projection.nearest import VectorPair, nearest_entries


def random_pair(seed: int, dtype: type = np.float32) -> VectorPair:
    rng = np.random.default_rng(seed)
    student, teacher = rng.normal(size=(23, 5)), rng.normal(size=(31, 5))
    student[[3, 8]], teacher[[0, 7, 30]] = 0, 0
    return VectorPair(student.astype(dtype), teacher.astype(dtype))


@pytest.mark.parametrize("group", [1, 4, 64])
@pytest.mark.parametrize("blocks", [(4, 7), (1, 1), (100, 100)])
@pytest.mark.parametrize("k", [1, 3, 28, 100])
def test_the_nearest_of_all(monkeypatch: pytest.MonkeyPatch, blocks: tuple[int, int], k: int, group: int) -> None:
    monkeypatch.setattr(module, "_GROUP", group)
    monkeypatch.setattr(module, "_STUDENT_BLOCK", blocks[0])
    monkeypatch.setattr(module, "_TEACHER_BLOCK", blocks[1])
    vectors, ids = random_pair(k), np.array([1, 3, 5, 22])
    found = nearest_entries(vectors, ids, NearestSettings(k=k, temperature=0.1))
    assert set(found.rule) == {Rule.NEAREST}
    assert set(found.student) == {1, 5, 22}  # 3 has no vector
    for i in (1, 5, 22):
        row = found.student == i
        expected = nearest(vectors.student[i].astype(float), vectors.teacher.astype(float), k, 0.1)
        got = dict(zip(found.teacher[row].tolist(), found.weight[row].tolist(), strict=True))
        assert got == pytest.approx(expected, rel=1e-4)


def test_half_precision_is_enough() -> None:
    full, half = random_pair(1), random_pair(1, np.float16)
    ids = np.arange(23)
    both = [nearest_entries(vectors, ids, NearestSettings(k=1)) for vectors in (full, half)]
    assert np.array_equal(both[0].teacher, both[1].teacher)


def test_no_vectors_at_all() -> None:
    nothing = VectorPair(np.zeros((3, 2), np.float32), np.zeros((4, 2), np.float32))
    assert len(nearest_entries(nothing, np.arange(3), NearestSettings()).student) == 0
    assert len(nearest_entries(random_pair(0), np.array([3, 8]), NearestSettings()).student) == 0


def test_vectors_of_two_spaces_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[3, 2\] and \[4, 5\]: give"):
        VectorPair(np.zeros((3, 2)), np.zeros((4, 5)))
