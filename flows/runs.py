"""Artifacts -> jobs for the trainer: which files a run reads and which folder it writes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.build_projection import BuiltProjection
from flows.config import RunConfig, TeacherConfig
from flows.prepare import Prepared, PreparedTeacher
from flows.resolve import model_folder, tokenizer_folder, tokenizer_of
from flows.stages.caches import cache_spec
from flows.trainings import CE, checkpoint_to_evaluate, run_folder, source_weights, training_settings
from storage.artifact import Artifact
from storage.vocabularies import store_vocabulary, vocabulary_spec
from storage.workspace import Workspace
from trainer.job import (
    Architecture,
    EvaluateJob,
    StudentInputs,
    TeacherInputs,
    TrainingSettings,
    TrainJob,
)
from trainer.loss_settings import PROJECTED, TeacherLoss
from xtoken_core.tokenizer import Tokenizer


@dataclass(frozen=True)
class RunData:
    """Everything that a run's trainings read."""

    prepared: Prepared
    caches: dict[str, Artifact]
    projections: dict[str, BuiltProjection]


def train_jobs(config: RunConfig, data: RunData) -> dict[str, TrainJob]:
    """A job for each training of the run; the one on cross-entropy alone has no teachers."""
    teachers = tuple(_teacher_inputs(config, data, index) for index in range(len(config.teachers)))
    return {
        name: _job(config, data, name, settings, () if name == CE else teachers)
        for name, settings in training_settings(config).items()
    }


def fingerprints(config: RunConfig, prepared: Prepared, projections: dict[str, BuiltProjection]) -> dict[str, Any]:
    """What the trainings will read, named as the trainer names it; no cache needs to be there for that."""
    teachers = zip(config.teachers, prepared.teachers, strict=True)
    return {
        "windows": prepared.windows.manifest.fingerprint,
        "student_tokens": prepared.student_tokens.manifest.fingerprint,
        "teachers": {
            str(i): _teacher_fingerprints(config, teacher, data, projections)
            for i, (teacher, data) in enumerate(teachers)
        },
    }


def evaluate_job(config: RunConfig, prepared: Prepared) -> EvaluateJob:
    """The evaluation of `evaluation.checkpoint`, by default of the run's best distilled checkpoint."""
    return EvaluateJob(
        checkpoint=checkpoint_to_evaluate(config),
        windows=prepared.windows.folder,
        student_tokens=prepared.student_tokens.folder,
        student_vocabulary=_vocabulary_folder(config, tokenizer_of(config.student)),
        max_length=config.student.max_length,
        batch_windows=config.training.micro_batch_windows,
        tasks=config.evaluation.tasks,
        task_limit=config.evaluation.task_limit,
    )


def _teacher_fingerprints(
    config: RunConfig, teacher: TeacherConfig, data: PreparedTeacher, projections: dict[str, BuiltProjection]
) -> dict[str, str | None]:
    tokenizer = tokenizer_of(teacher)
    return {
        "alignments": data.alignments.manifest.fingerprint,
        "cache": cache_spec(config, teacher, tokenizer, data.tokens.manifest.fingerprint).fingerprint,
        "projection": projections[teacher.name].projection.manifest.fingerprint if teacher.loss in PROJECTED else None,
    }


def _job(
    config: RunConfig, data: RunData, name: str, settings: TrainingSettings, teachers: tuple[TeacherInputs, ...]
) -> TrainJob:
    return TrainJob(
        run_folder=run_folder(config) / name,
        windows=data.prepared.windows.folder,
        student_tokens=data.prepared.student_tokens.folder,
        student=_student_inputs(config),
        teachers=teachers,
        source_weights=source_weights(config),
        settings=settings,
    )


def _student_inputs(config: RunConfig) -> StudentInputs:
    return StudentInputs(
        model=model_folder(config.student.model) if config.student.model else None,
        architecture=config.student.architecture or Architecture(),
        tokenizer=tokenizer_folder(config.student.tokenizer_reference),
        vocabulary=_vocabulary_folder(config, tokenizer_of(config.student)),
        max_length=config.student.max_length,
    )


def _teacher_inputs(config: RunConfig, data: RunData, index: int) -> TeacherInputs:
    teacher = config.teachers[index]
    return TeacherInputs(
        name=teacher.name,
        weight=teacher.weight,
        **teacher.model_dump(include=set(TeacherLoss.model_fields)),
        alignments=data.prepared.teachers[index].alignments.folder,
        cache=data.caches[teacher.name].folder,
        vocabulary=_vocabulary_folder(config, tokenizer_of(teacher)),
        projection=data.projections[teacher.name].projection.folder if teacher.loss in PROJECTED else None,
    )


def _vocabulary_folder(config: RunConfig, tokenizer: Tokenizer) -> Path:
    folder = Workspace(config.workspace).vocabulary(vocabulary_spec(tokenizer.vocabulary))
    return store_vocabulary(folder, tokenizer.vocabulary).folder
