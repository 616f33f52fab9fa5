"""Small runs of the trainer in this process, and parts of them."""

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from trainer.batches import MicroBatch
from trainer.group import Group
from trainer.job import TrainJob
from trainer.metrics import Metrics
from trainer.model import embedding_rows, make_student
from trainer.opened import OpenedJob, open_job
from trainer.stepper import StepOutcome, Stepper
from xtoken_core.losses.chunks import ChunkRows, Chunks
from xtoken_core.losses.fast.chunk_table import ChunkTable

FORGET = {"clip_norm": 1e9, "learning_rate": 1e-30, "weight_decay": 0.0}  # steps that leave the student as it was


class KilledError(BaseException):
    """Stands for a kill: nothing in the loop handles it."""


def curve(records: list[Metrics]) -> list[Metrics]:
    """The records without what depends on the clock."""
    return [record.model_copy(update={"seconds": 0.0, "tokens_per_second": None}) for record in records]


def stepper_of(job: TrainJob, alone: Group) -> tuple[Stepper, OpenedJob]:
    opened = open_job(job)
    model = make_student(job.student, opened.vocabulary, opened.student, seed=0)
    return Stepper(job, alone, model, opened.batches(embedding_rows(model))), opened


def only_micro_batch(opened: OpenedJob) -> MicroBatch:
    (plan,) = opened.batches(student_rows=400).step(1, 0, 1).plans
    return plan.complete()


def chunks_of(table: ChunkTable) -> Chunks:
    """The chunks that a table of the fast losses was made of."""
    sides = (ChunkRows(side.row, side.chunk) for side in (table.student, table.teacher))
    return Chunks(*sides, usable=table.counted, counted=table.counted, exact=table.counted)


def with_rows(job: TrainJob, rows: int, folder: Path) -> TrainJob:
    """The job with a student that has embeddings of the first `rows` ids."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=rows, **sizes)).save_pretrained(folder)
    return job.model_copy(update={"student": job.student.model_copy(update={"model": folder})})


def gradient_of(job: TrainJob, alone: Group) -> tuple[torch.Tensor, float]:
    """The gradient of the loss of step 1, flat, and the loss."""
    gradient, outcome = outcome_of(job, alone)
    return gradient, outcome.loss


def outcome_of(job: TrainJob, alone: Group, norms: bool = False) -> tuple[torch.Tensor, StepOutcome]:
    """The gradient of step 1, flat, and what is recorded of the step."""
    stepper, _ = stepper_of(job, alone)
    kept: list[torch.Tensor] = []
    stepper.optimizer.register_step_pre_hook(lambda *_: kept.append(flat_gradient(stepper.model)))
    outcome = stepper.optimize(1, stepper.prepare(1), norms)
    stepper.close()
    return kept[0], outcome


def recorded(outcome: StepOutcome) -> list[float]:
    return [outcome.loss, outcome.grad_norm, *outcome.measured.means()]


def flat_gradient(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def with_dropout(job: TrainJob, folder: Path) -> TrainJob:
    """The job with a student from a folder whose training draws random numbers."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=400,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        attention_dropout=0.2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return job.model_copy(update={"student": job.student.model_copy(update={"model": folder})})
