"""Small runs of the trainer in this process, and parts of them."""

from pathlib import Path

from transformers import LlamaConfig, LlamaForCausalLM

from trainer.batches import MicroBatch
from trainer.group import Group
from trainer.job import TrainJob
from trainer.metrics import Metrics
from trainer.model import embedding_rows, make_student
from trainer.opened import OpenedJob, open_job
from trainer.stepper import Stepper

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


def with_rows(job: TrainJob, rows: int, folder: Path) -> TrainJob:
    """The job with a student that has embeddings of the first `rows` ids."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=rows, **sizes)).save_pretrained(folder)
    return job.model_copy(update={"student": job.student.model_copy(update={"model": folder})})
