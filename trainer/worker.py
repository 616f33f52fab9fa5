"""What Ray Train runs in every worker process."""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import ray.train
import torch
from ray.train.torch import get_device
from transformers.utils.logging import disable_progress_bar

from storage.lock import artifact_lock
from trainer.errors import LASTING, GpuMemoryError
from trainer.failure import has_failure, report_failure
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
    if has_failure(job.run_folder):
        return
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
        except torch.OutOfMemoryError as error:
            report_failure(job.run_folder, _explain(job, error))
            raise  # the other workers wait for this one, until Ray ends them


def worker_threads(job: TrainJob, workers_here: int) -> int:
    """CPU threads of a worker: as set, else an equal share of the cores for each worker on this machine."""
    return job.settings.threads_per_worker or max(1, usable_cores() // workers_here)


def usable_cores() -> int:
    """The cores that this process may use, or all where the system does not tell (macOS, Windows)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _explain(job: TrainJob, error: torch.OutOfMemoryError) -> GpuMemoryError:
    unit = "packed rows" if job.settings.packing else "windows"
    return GpuMemoryError(
        f"the GPU has too little memory for {job.settings.micro_batch_windows} {unit} at a time ({error}): lower "
        "training.micro_batch_windows, which changes nothing but the memory and time of a step, and run the same "
        "command again; where 1 is too much, use shorter windows (windows.max_bytes) or a larger GPU"
    )


def _writer_lock(job: TrainJob, group: Group) -> AbstractContextManager[None]:
    return artifact_lock(job.run_folder / WRITER_LOCK) if group.is_first else nullcontext()
