"""Measuring one checkpoint: bits per byte on held-out documents, and task scores by lm-eval."""

from importlib.util import find_spec

import torch
from transformers.utils.logging import disable_progress_bar

from storage.vocabularies import load_vocabulary
from trainer.errors import MissingPackageError
from trainer.group import Group
from trainer.heldout import HeldoutScore
from trainer.job import EvaluateJob, Evaluation
from trainer.model import Student, open_student
from trainer.opened import open_heldout
from trainer.stepper import autocast
from trainer.windows import StudentWindows


def evaluate_checkpoint(job: EvaluateJob) -> Evaluation:
    """Measure `job.checkpoint` on this machine's GPU if it has one, else on its CPU."""
    if job.tasks and find_spec("lm_eval") is None:
        raise MissingPackageError(
            "task scores need the package lm-eval, which is not installed: pip install 'xtoken[eval]', or leave out "
            "`tasks`"
        )
    disable_progress_bar()
    score, skipped = _heldout_score(job)
    return Evaluation(
        bits_per_byte=score.bits_per_byte,
        nats=score.nats,
        predicted_bytes=score.predicted_bytes,
        windows=score.windows,
        skipped_windows=skipped,
        tasks=_task_scores(job) if job.tasks else {},
    )


def _heldout_score(job: EvaluateJob) -> tuple[HeldoutScore, int]:
    student = StudentWindows.open(job.windows, job.student_tokens)
    vocabulary = load_vocabulary(job.student_vocabulary)
    heldout = open_heldout(student, vocabulary, job.max_length, job.batch_windows)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = open_student(job.checkpoint, job.max_length, vocabulary, student)
    with autocast(device):
        score = heldout.score(Student(model, vocabulary.size).to(device).eval(), Group(0, 1, device))
    return score, student.heldout(job.max_length)[1]


def _task_scores(job: EvaluateJob) -> dict[str, dict[str, float]]:
    """lm-eval's numbers by task and metric."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    model = HFLM(pretrained=str(job.checkpoint), batch_size=job.batch_windows)
    results = simple_evaluate(model=model, tasks=list(job.tasks), limit=job.task_limit)["results"]
    return {
        task: {name: float(value) for name, value in scores.items() if _is_score(name, value)}
        for task, scores in results.items()
    }


def _is_score(name: str, value: object) -> bool:
    """Beside a task's metrics lm-eval tells its alias and how many examples there were."""
    return name != "sample_len" and isinstance(value, int | float)
