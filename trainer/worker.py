"""What Ray Train runs in every worker process."""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import ray.train
import torch
from ray.train.torch import get_device
from transformers.utils.logging import disable_progress_bar

from storage.lock import artifact_lock
from trainer.errors import LASTING
from trainer.failure import report_failure
from trainer.group import Group
from trainer.job import TrainJob
from trainer.loop import run_loop
from trainer.run_files import WRITER_LOCK


def train_worker(config: dict[str, Any]) -> None:
    """Run the training loop as one worker of a group.

    Rank 0 holds the run's lock while it writes: after the driver was killed, its workers may live on for a moment, and
    a new run must not write beside them.
    """
    job = TrainJob.model_validate_json(config["job"])
    context = ray.train.get_context()
    group = Group(context.get_world_rank(), context.get_world_size(), get_device())
    if group.device.type == "cuda":
        torch.cuda.set_device(group.device)
    disable_progress_bar()
    torch.set_num_threads(worker_threads(job, context.get_local_world_size()))
    with _writer_lock(job, group):
        try:
            run_loop(job, group)
        except LASTING as error:
            report_failure(job.run_folder, error)


def worker_threads(job: TrainJob, workers_here: int) -> int:
    """CPU threads of a worker: as set, else an equal share of the cores for each worker on this machine."""
    return job.settings.threads_per_worker or max(1, len(os.sched_getaffinity(0)) // workers_here)


def _writer_lock(job: TrainJob, group: Group) -> AbstractContextManager[None]:
    return artifact_lock(job.run_folder / WRITER_LOCK) if group.is_first else nullcontext()
