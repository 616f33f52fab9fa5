"""The losses of a job: one for each teacher, or one for all of them together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trainer.job import TrainJob
from trainer.teachers import TeacherData
from trainer.terms.averaged import average
from trainer.terms.builders import LossBuilder, Pair, Part, loss_builder
from trainer.terms.plan import TermPlan
from trainer.terms.predictions import Predictions
from trainer.terms.scores import scores_of
from trainer.terms.text_chunks import TextChunks
from trainer.windows import WindowSet
from xtoken_core.loss_options import TeacherMode
from xtoken_core.ragged import Ragged
from xtoken_core.vocabulary import Vocabulary

AVERAGED = "averaged"  # the name of the one loss of all teachers


@dataclass(frozen=True, eq=False)
class StudentText:
    """The windows of a micro-batch as the student reads them."""

    windows: WindowSet
    ids: Ragged
    loss_mask: Ragged
    predictions: Predictions


@dataclass(frozen=True, eq=False)
class Planner:
    """Plans one loss. name: what its metrics are listed under. teacher: whose it is; of several the first."""

    name: str
    teacher: TeacherData
    plan: Callable[[StudentText], TermPlan | None]


def planners(teachers: Sequence[TeacherData], student: Vocabulary, job: TrainJob) -> tuple[Planner, ...]:
    """The losses of `teachers`, in their order. Takes seconds for large vocabularies."""
    settings = job.settings
    pairs = [Pair(teacher, student, job.student.tokenizer, settings) for teacher in teachers]
    plans = [_Alone(pair, loss_builder(pair)).plan for pair in pairs]
    if settings.combine.mode != TeacherMode.AVERAGED_LOGITS:
        return tuple(
            Planner(pair.teacher.inputs.name, pair.teacher, plan) for pair, plan in zip(pairs, plans, strict=True)
        )
    weights = [teacher.inputs.weight for teacher in teachers]
    return (Planner(AVERAGED, teachers[0], lambda text: average([plan(text) for plan in plans], weights)),)


@dataclass(frozen=True, eq=False)
class _Alone:
    """The loss of one teacher."""

    pair: Pair
    build: LossBuilder

    def plan(self, text: StudentText) -> TermPlan | None:
        """None where the teacher has nothing for any of the windows."""
        rows = self.pair.teacher.read(text.windows, text.ids, text.loss_mask)
        if rows is None:
            return None
        chunks = TextChunks.of(rows.alignment, rows.loss_mask)
        pieces = self.build(Part(rows, chunks, text.predictions))
        scores = scores_of(self.pair.teacher, rows, chunks) if self.pair.settings.combine.needs_scores else None
        valid = chunks.valid
        return TermPlan(
            count=pieces.count,
            chunks=int(valid.sum()),
            exact_chunks=int((valid & chunks.exact).sum()),
            ready=pieces.ready,
            column_scores=pieces.column_scores,
            scores=scores,
            positions=pieces.positions,
        )
