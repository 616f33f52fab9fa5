"""Everything that a job reads, opened and checked once."""

from dataclasses import dataclass

from storage.vocabularies import load_vocabulary
from trainer.batches import BatchBuilder
from trainer.errors import DataError
from trainer.heldout import Heldout
from trainer.job import TrainJob
from trainer.model import first_ids
from trainer.order import Mixture
from trainer.sources import mixture_of
from trainer.teachers import TeacherData
from trainer.terms import planners
from trainer.windows import StudentWindows, WindowSet
from xtoken_core.loss_options import TeacherMode
from xtoken_core.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class OpenedJob:
    """The data of a job: the windows to train on and how often, the teachers that know them, the held-out windows."""

    job: TrainJob
    student: StudentWindows
    vocabulary: Vocabulary
    windows: WindowSet
    mixture: Mixture
    teachers: tuple[TeacherData, ...]
    heldout: Heldout

    def batches(self, student_rows: int) -> BatchBuilder:
        """What builds the batches of a student that has embeddings of the first `student_rows` ids.

        Takes seconds for large vocabularies.
        """
        settings = self.job.settings
        vocabulary = first_ids(self.vocabulary, student_rows)
        return BatchBuilder(
            student=self.student,
            windows=self.windows,
            vocabulary=vocabulary,
            planners=planners(self.teachers, vocabulary, self.job),
            mixture=self.mixture,
            batch_windows=settings.batch_windows,
            micro_batch_windows=settings.micro_batch_windows,
            packing=settings.packing,
            seed=settings.seed,
        )


def open_job(job: TrainJob) -> OpenedJob:
    """Open the job's artifacts.

    Raises:
        ArtifactError: if one is missing or damaged, or two of them do not belong together.
        DataError: if there is nothing to train on or nothing to evaluate on.
    """
    student = StudentWindows.open(job.windows, job.student_tokens)
    vocabulary = load_vocabulary(job.student.vocabulary)
    max_length = job.student.max_length
    windows = student.train(max_length)
    opened = OpenedJob(
        job=job,
        student=student,
        vocabulary=vocabulary,
        windows=windows,
        mixture=mixture_of(student, windows, job.source_weights),
        teachers=tuple(TeacherData.open(inputs, student, vocabulary) for inputs in job.teachers),
        heldout=open_heldout(student, vocabulary, max_length, job.settings.micro_batch_windows),
    )
    _require_training_windows(opened)
    _require_whole_logits(opened)
    return opened


def open_heldout(student: StudentWindows, vocabulary: Vocabulary, max_length: int, batch_windows: int) -> Heldout:
    """The held-out windows that fit the student (DataError if there are none)."""
    windows, skipped = student.heldout(max_length)
    if not len(windows):
        raise DataError(
            f"{student.windows_folder} has no held-out window of 2 to {max_length} student tokens ({skipped} are "
            "longer): raise corpus.holdout, or student.max_length if windows are too long"
        )
    return Heldout(student, windows, vocabulary, batch_windows)


def _require_training_windows(opened: OpenedJob) -> None:
    if not len(opened.windows):
        raise DataError(
            f"{opened.job.windows} has no training window of 2 to {opened.job.student.max_length} student tokens: add "
            "text to the corpus, or raise student.max_length if windows are too long"
        )
    if opened.mixture.epoch_windows == 0:
        raise DataError("every source with training windows has weight 0: give one of them a weight above 0")
    for teacher in opened.teachers:
        if not (teacher.cache.find(opened.windows.window_ids) >= 0).any():
            raise DataError(
                f"teacher {teacher.inputs.name} has records for none of the training windows ({teacher.inputs.cache}): "
                "raise its max_length and run `xtoken cache-teacher` again, or leave it out"
            )


def _require_whole_logits(opened: OpenedJob) -> None:
    if opened.job.settings.combine.mode == TeacherMode.AVERAGED_LOGITS:
        for teacher in opened.teachers:
            teacher.require_whole("combine.mode averaged_logits", "use mode sum")
