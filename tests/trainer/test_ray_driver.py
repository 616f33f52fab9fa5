import pytest

from trainer.errors import WorkersError
from trainer.ray_driver import cpus_per_worker


@pytest.mark.parametrize(
    ("nodes", "workers", "expected"),
    [
        ([2], 1, 2),
        ([2], 2, 1),
        ([8], 3, 2),
        ([2], 3, 1 / 2),
        ([1], 4, 1 / 4),
        ([16, 16], 3, 8),
        ([16, 16], 2, 16),
        ([16, 4], 2, 8),
        ([3, 0.0], 5, 1 / 2),
        ([0.5], 1, 1 / 2),
    ],
)
def test_workers_get_as_many_cpus_as_fit_on_the_nodes(nodes: list[float], workers: int, expected: float) -> None:
    cpus = cpus_per_worker(nodes, workers)
    assert cpus == expected
    assert sum(int(node / cpus) for node in nodes) >= workers


def test_a_cluster_without_cpus_is_told() -> None:
    with pytest.raises(WorkersError, match="no CPUs"):
        cpus_per_worker([0.0], 1)
