"""Starts Ray and runs the workers of a job on it."""

import logging
import threading
from collections.abc import Callable, Sequence

import ray
from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer

from trainer.errors import WorkersError
from trainer.failure import raise_failure
from trainer.job import TrainJob
from trainer.ray_session import ensure_ray
from trainer.run_files import RAY_FOLDER, STOP_NAME
from trainer.worker import train_worker

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.25
START_ATTEMPTS = 5  # a minute each, until the cluster has room for the workers


def cpus_per_worker(nodes: Sequence[float], workers: int) -> float:
    """The most CPUs that each of `workers` can ask for so that all fit on `nodes` (CPUs of each).

    Whole ones where there are enough; else 1/2, 1/3 ... of one.

    Raises:
        WorkersError: if there is no CPU at all.
    """
    if sum(nodes) <= 0:
        raise WorkersError("the Ray cluster has no CPUs: start Ray with `--num-cpus`, or unset RAY_ADDRESS")
    for cpus in range(int(max(nodes)), 0, -1):
        if sum(node // cpus for node in nodes) >= workers:
            return float(cpus)
    parts = 2
    while sum(int(node * parts) for node in nodes) < workers:
        parts += 1
    return 1 / parts


def scaling(workers: int) -> ScalingConfig:
    """One GPU per worker where the cluster has GPUs, else a fair share of its CPUs.

    Raises:
        WorkersError: if there are GPUs, but fewer than workers.
    """
    gpus = int(ray.cluster_resources().get("GPU", 0))
    if gpus:
        if workers > gpus:
            raise WorkersError(
                f"{workers} workers need {workers} GPUs, Ray sees {gpus}: set training.workers to {gpus}"
            )
        return ScalingConfig(num_workers=workers, use_gpu=True)
    nodes = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
    return ScalingConfig(num_workers=workers, resources_per_worker={"CPU": cpus_per_worker(nodes, workers)})


def fit(job: TrainJob, meanwhile: Callable[[], None]) -> None:
    """Run the job's workers until they are done, calling `meanwhile` a few times a second in the calling thread.

    Ctrl-C, and any error of `meanwhile`, asks the workers to stop after their step and to save a checkpoint, and is
    raised again when they did; a second Ctrl-C does not wait.

    Raises:
        ArtifactError, ModelError, StorageError, TrainerError: what a worker reported.
        WorkersError: if the cluster has no room for the workers, or they failed more often than `max_failures`.
    """
    ensure_ray()
    run = _Background(_trainer(job).fit)
    try:
        run.wait(meanwhile)
    except BaseException:
        logger.warning("stopping after the current step (press Ctrl-C again not to wait)")
        (job.run_folder / STOP_NAME).touch()
        run.wait(lambda: None)
        raise
    raise_failure(job.run_folder)
    if isinstance(run.error, TrainingFailedError):
        raise WorkersError(
            f"Ray gave up on the workers (max_failures is {job.settings.max_failures}): {run.error}\n"
            "Checkpoints are kept: run the same command again to go on from the newest one."
        ) from run.error
    if run.error is not None:
        raise run.error


def _trainer(job: TrainJob) -> TorchTrainer:
    scaling_config = scaling(job.settings.workers)
    return TorchTrainer(
        train_worker,
        train_loop_config={"job": job.model_dump_json()},
        torch_config=TorchConfig(backend="nccl" if scaling_config.use_gpu else "gloo"),
        scaling_config=scaling_config,
        run_config=_run_config(job),
    )


def _run_config(job: TrainJob) -> RunConfig:
    # Type checkers see the classes of Ray Train's first version, which know less.
    failures = FailureConfig(max_failures=job.settings.max_failures, controller_failure_limit=START_ATTEMPTS)  # type: ignore[call-arg]
    return RunConfig(  # type: ignore[call-arg]
        name=RAY_FOLDER,
        storage_path=str(job.run_folder),
        failure_config=failures,
        logging_config=LoggingConfig(log_level="WARNING"),
    )


class _Background:
    """A call in another thread. Ray takes over Ctrl-C in the main thread, and ends the process with success on it."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.error: BaseException | None = None
        self._work = work
        self._thread = threading.Thread(target=self._run, name="ray-train", daemon=True)
        self._thread.start()

    def wait(self, meanwhile: Callable[[], None]) -> None:
        """Return when the call has; `meanwhile` is called until then and once after."""
        while self._thread.is_alive():
            meanwhile()
            self._thread.join(POLL_SECONDS)
        meanwhile()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self.error = error
