from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest

from trainer.order import Mixture, epoch_order, share_of, windows_of_step

EVEN = Mixture.even(50)


@pytest.mark.parametrize(("windows", "batch"), [(10, 4), (3, 7), (1, 5), (8, 8)])
def test_an_epoch_takes_every_window_once(windows: int, batch: int) -> None:
    steps = [windows_of_step(5, step, batch, Mixture.even(windows)) for step in range(1, 2 * windows + 1)]
    stream = np.concatenate(steps)
    for epoch in range(len(stream) // windows):
        assert sorted(stream[epoch * windows : (epoch + 1) * windows]) == list(range(windows))


def mixture(*groups: tuple[Sequence[int], str]) -> Mixture:
    return Mixture(
        tuple(np.array(windows, dtype=np.int64) for windows, _ in groups), tuple(Fraction(w) for _, w in groups)
    )


@pytest.mark.parametrize("windows", [1, 7, 64])
@pytest.mark.parametrize("groups", [1, 3])
def test_weights_of_one_leave_every_epoch_a_plain_permutation(windows: int, groups: int) -> None:
    parts = np.array_split(np.random.default_rng(0).permutation(windows), groups)
    even = mixture(*((part, "1") for part in parts))
    stream = np.concatenate([np.random.default_rng([5, epoch]).permutation(windows) for epoch in range(4)])
    for step in range(1, 2 * windows // 3):
        assert windows_of_step(5, step, 6, even).tolist() == stream[6 * (step - 1) : 6 * step].tolist()


MIXED = mixture((range(10), "1"), (range(10, 20), "2.3"), ([20], "0.25"), (range(21, 30), "0"), ([], "7"))


def test_an_epoch_takes_a_window_as_often_as_its_weight_says() -> None:
    taken = np.array([np.bincount(epoch_order(1, epoch, MIXED), minlength=30) for epoch in range(400)])
    assert (taken[:, :10] == 1).all()
    assert set(np.unique(taken[:, 10:20])) == {2, 3}
    assert (taken[:, 10:20].sum(axis=1) == 23).all()
    assert (taken.sum(axis=0)[10:20] > 0.95 * 2.3 * 400).all()  # each of them in turn
    assert (taken.sum(axis=0)[10:20] < 1.05 * 2.3 * 400).all()
    assert taken[:, 20].sum() == 100
    assert (taken[:, 21:] == 0).all()
    assert MIXED.epoch_windows == pytest.approx(10 + 23 + 0.25)


def test_what_an_epoch_takes_once_more_is_drawn_anew() -> None:
    drawn = {tuple(np.sort(epoch_order(1, epoch, MIXED)).tolist()) for epoch in range(10)}
    assert len(drawn) > 5
    assert np.array_equal(epoch_order(1, 3, MIXED), epoch_order.__wrapped__(1, 3, MIXED))
    assert not np.array_equal(epoch_order(1, 3, MIXED), epoch_order(2, 3, MIXED))


@pytest.mark.parametrize("batch", [1, 6, 50, 100])
@pytest.mark.parametrize("mixed", [MIXED, mixture(([3], "0.3")), mixture(([0, 1], "0.2"), ([2], "0.1"))])
def test_steps_are_the_epochs_one_after_another(batch: int, mixed: Mixture) -> None:
    """Also where an epoch is empty, or shorter than a step."""
    stream = np.concatenate([epoch_order(0, epoch, mixed) for epoch in range(3000)])
    for step in (1, 2, 3, 7):
        assert windows_of_step(0, step, batch, mixed).tolist() == stream[batch * (step - 1) : batch * step].tolist()


def test_epochs_and_seeds_differ() -> None:
    first, second = windows_of_step(0, 1, 50, EVEN), windows_of_step(0, 2, 50, EVEN)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, windows_of_step(1, 1, 50, EVEN))
    assert np.array_equal(first, windows_of_step(0, 1, 50, EVEN))


def test_workers_share_a_step_without_gaps() -> None:
    indices = windows_of_step(0, 3, 12, Mixture.even(40))
    parts = [share_of(indices, rank, 3) for rank in range(3)]
    assert [len(part) for part in parts] == [4, 4, 4]
    assert np.array_equal(np.concatenate(parts), indices)
