from types import SimpleNamespace

import pytest
from ray.train import TrainingFailedError
from tiny_workspace import TinyWorkspace

from trainer.errors import GpuMemoryError, WorkersError
from trainer.failure import report_failure
from trainer.ray_driver import cpus_per_worker, fit


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


@pytest.mark.parametrize("reported", [True, False])
def test_what_a_worker_reported_is_told_and_not_that_ray_gave_up(
    tiny: TinyWorkspace, monkeypatch: pytest.MonkeyPatch, reported: bool
) -> None:
    job = tiny.job(f"reported-{reported}")
    job.run_folder.mkdir(parents=True)

    def give_up() -> None:
        if reported:
            report_failure(job.run_folder, GpuMemoryError("too little memory"))
        raise TrainingFailedError("a worker failed")

    monkeypatch.setattr("trainer.ray_driver.ensure_ray", lambda: None)
    monkeypatch.setattr("trainer.ray_driver._trainer", lambda job: SimpleNamespace(fit=give_up))
    expected, told = (GpuMemoryError, "too little memory") if reported else (WorkersError, "max_failures is 2")
    with pytest.raises(expected, match=told):
        fit(job, lambda: None)
