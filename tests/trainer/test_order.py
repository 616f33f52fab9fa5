import numpy as np
import pytest

from trainer.order import share_of, windows_of_step


@pytest.mark.parametrize(("windows", "batch"), [(10, 4), (3, 7), (1, 5), (8, 8)])
def test_an_epoch_takes_every_window_once(windows: int, batch: int) -> None:
    steps = [windows_of_step(5, step, batch, windows) for step in range(1, 2 * windows + 1)]
    stream = np.concatenate(steps)
    for epoch in range(len(stream) // windows):
        assert sorted(stream[epoch * windows : (epoch + 1) * windows]) == list(range(windows))


def test_epochs_and_seeds_differ() -> None:
    first, second = windows_of_step(0, 1, 50, 50), windows_of_step(0, 2, 50, 50)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, windows_of_step(1, 1, 50, 50))
    assert np.array_equal(first, windows_of_step(0, 1, 50, 50))


def test_workers_share_a_step_without_gaps() -> None:
    indices = windows_of_step(0, 3, 12, 40)
    parts = [share_of(indices, rank, 3) for rank in range(3)]
    assert [len(part) for part in parts] == [4, 4, 4]
    assert np.array_equal(np.concatenate(parts), indices)
