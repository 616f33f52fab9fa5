"""Artifacts -> jobs for the trainer: which files a run reads and which folder it writes."""

from dataclasses import dataclass
from pathlib import Path

from flows.config import RunConfig
from flows.prepare import Prepared
from flows.resolve import load_tokenizer, model_folder, tokenizer_folder
from storage.artifact import Artifact
from storage.vocabularies import store_vocabulary, vocabulary_spec
from storage.workspace import Workspace
from trainer.job import Architecture, EvaluateJob, StudentInputs, TeacherInputs, TrainingSettings, TrainJob
from xtoken_core.tokenizer import Tokenizer

CE = "ce"
DISTILLED = "distilled"
READABLE = {CE: "cross-entropy", DISTILLED: "distilled"}


@dataclass(frozen=True)
class RunData:
    """Everything that a run's trainings read."""

    prepared: Prepared
    caches: dict[str, Artifact]
    projections: dict[str, Artifact]


def run_folder(config: RunConfig) -> Path:
    """Where a run keeps its trainings, report and summary."""
    return Workspace(config.workspace).run(config.name)


def train_jobs(config: RunConfig, data: RunData) -> dict[str, TrainJob]:
    """The trainings of a run: cross-entropy alone where the config has a `baseline`, then the distilled student."""
    jobs = {}
    if config.baseline is not None:
        alone = {"ce_weight": 1.0, "kd_weight": 0.0, "learning_rate": config.baseline.learning_rate}
        jobs[CE] = _job(config, data, CE, config.training.model_copy(update=alone), ())
    teachers = tuple(_teacher_inputs(config, data, index) for index in range(len(config.teachers)))
    jobs[DISTILLED] = _job(config, data, DISTILLED, config.training, teachers)
    return jobs


def evaluate_job(config: RunConfig, prepared: Prepared) -> EvaluateJob:
    """The evaluation of `evaluation.checkpoint`, by default of the run's best distilled checkpoint."""
    checkpoint = config.evaluation.checkpoint
    return EvaluateJob(
        checkpoint=Path(checkpoint) if checkpoint else run_folder(config) / DISTILLED / "best",
        windows=prepared.windows.folder,
        student_tokens=prepared.student_tokens.folder,
        student_vocabulary=_vocabulary_folder(config, load_tokenizer(config.student.tokenizer_reference)),
        max_length=config.student.max_length,
        tasks=config.evaluation.tasks,
        task_limit=config.evaluation.task_limit,
    )


def _job(
    config: RunConfig, data: RunData, name: str, settings: TrainingSettings, teachers: tuple[TeacherInputs, ...]
) -> TrainJob:
    return TrainJob(
        run_folder=run_folder(config) / name,
        windows=data.prepared.windows.folder,
        student_tokens=data.prepared.student_tokens.folder,
        student=_student_inputs(config),
        teachers=teachers,
        settings=settings,
    )


def _student_inputs(config: RunConfig) -> StudentInputs:
    reference = config.student.tokenizer_reference
    return StudentInputs(
        model=model_folder(config.student.model) if config.student.model else None,
        architecture=config.student.architecture or Architecture(),
        tokenizer=tokenizer_folder(reference),
        vocabulary=_vocabulary_folder(config, load_tokenizer(reference)),
        max_length=config.student.max_length,
    )


def _teacher_inputs(config: RunConfig, data: RunData, index: int) -> TeacherInputs:
    teacher = config.teachers[index]
    return TeacherInputs(
        name=teacher.name,
        weight=teacher.weight,
        loss=teacher.loss,
        alignments=data.prepared.teachers[index].alignments.folder,
        cache=data.caches[teacher.name].folder,
        vocabulary=_vocabulary_folder(config, load_tokenizer(teacher.tokenizer_reference)),
        projection=data.projections[teacher.name].folder if teacher.loss == "p_kl" else None,
    )


def _vocabulary_folder(config: RunConfig, tokenizer: Tokenizer) -> Path:
    folder = Workspace(config.workspace).vocabulary(vocabulary_spec(tokenizer.vocabulary))
    return store_vocabulary(folder, tokenizer.vocabulary).folder
