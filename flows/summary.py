"""The outcome of a run in numbers: `summary.json`."""

import logging
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from flows.config import RunConfig, TeacherConfig
from flows.prepare import Prepared
from flows.resolve import tokenizer_of
from flows.runs import RunData
from flows.stopwatch import Stopwatch
from flows.trainings import CE, DISTILLED
from storage.columns import from_list_column
from storage.records import StoredRecords
from trainer.job import TrainResult
from xtoken_core.text_bytes import token_bytes
from xtoken_core.vocabulary import Vocabulary

logger = logging.getLogger(__name__)


class Training(TrainResult):
    """A finished training and where it lies."""

    folder: Path


class Summary(BaseModel):
    """What a run found. Bits per byte are held-out, each student at its own best checkpoint."""

    model_config = ConfigDict(frozen=True)

    name: str
    distilled_bits_per_byte: float
    ce_bits_per_byte: float | None
    teacher_bits_per_byte: dict[str, float]
    trainings: dict[str, Training]
    exact_byte_share: dict[str, float]
    seconds: dict[str, float]

    def rows(self) -> list[dict[str, object]]:
        """One row per model, to print."""
        students = [
            {
                "model": f"student, {name}",
                "bits per byte": round(training.best_bits_per_byte, 4),
                "at step": training.best_step,
                "after the last step": round(training.final_bits_per_byte, 4),
            }
            for name, training in self.trainings.items()
        ]
        teachers = [
            {"model": f"teacher, {name}", "bits per byte": round(value, 4), "at step": "", "after the last step": ""}
            for name, value in self.teacher_bits_per_byte.items()
        ]
        return [*students, *teachers]


def summarise(config: RunConfig, data: RunData, trainings: dict[str, Training], watch: Stopwatch) -> Summary:
    """Put the numbers of a finished run together."""
    alignments = {teacher.name: teacher.alignments.manifest for teacher in data.prepared.teachers}
    return Summary(
        name=config.name,
        distilled_bits_per_byte=trainings[DISTILLED].best_bits_per_byte,
        ce_bits_per_byte=trainings[CE].best_bits_per_byte if CE in trainings else None,
        teacher_bits_per_byte={
            teacher.name: teacher_bits_per_byte(config, data, teacher) for teacher in config.teachers
        },
        trainings=trainings,
        exact_byte_share={
            name: manifest.total("n_exact_bytes") / manifest.total("n_bytes") for name, manifest in alignments.items()
        },
        seconds=watch.seconds,
    )


def teacher_bits_per_byte(config: RunConfig, data: RunData, teacher: TeacherConfig) -> float:
    """A teacher's bits per byte, measured as the students' are: over the tokens that it predicts and their bytes.

    The windows are the held-out ones that the students are measured on, but for those too long for the teacher, which
    the log counts; nan where there is none.
    """
    (tokens,) = [prepared.tokens for prepared in data.prepared.teachers if prepared.name == teacher.name]
    vocabulary = tokenizer_of(teacher).vocabulary
    scores = _Scores()
    for shard in range(len(tokens)):
        students = _students_windows(data.prepared, shard, config.student.max_length)
        scores.add(students, tokens.table(shard), data.caches[teacher.name].table(shard), vocabulary)
    if scores.windows < scores.students:
        logger.info(
            "teacher %s is measured on %d of the students' %d held-out windows: the others are too long for it",
            teacher.name,
            scores.windows,
            scores.students,
        )
    return scores.nats / math.log(2) / scores.bytes if scores.bytes else math.nan


def _students_windows(prepared: Prepared, shard: int, max_length: int) -> np.ndarray:
    """The rows of a shard that the students are measured on: held out, something to predict, not too long."""
    is_heldout = pc.equal(prepared.windows.table(shard)["split"], "heldout").to_numpy()
    lengths = from_list_column(prepared.student_tokens.table(shard)["ids"]).lengths
    return np.flatnonzero(is_heldout & (lengths >= 2) & (lengths <= max_length))


@dataclass
class _Scores:
    """Sums over windows: of the students' and of those among them that the teacher has records of."""

    students: int = 0
    windows: int = 0
    nats: float = 0.0
    bytes: int = 0

    def add(self, rows: np.ndarray, tokens: pa.Table, cache: pa.Table, vocabulary: Vocabulary) -> None:
        """Add the windows in `rows` of one shard; a cache has its rows in the same order."""
        window_ids, ids = tokens["window_id"].to_numpy(), from_list_column(tokens["ids"])
        stored = StoredRecords.from_table(cache)
        common = rows[np.isin(window_ids[rows], stored.window_ids)]
        self.students += len(rows)
        self.windows += len(common)
        spelled = token_bytes(ids, vocabulary)
        self.bytes += sum(int(spelled[ids.offsets[row] + 1 : ids.offsets[row + 1]].sum()) for row in common)
        for row in np.flatnonzero(np.isin(stored.window_ids, window_ids[common])):
            predicted = stored.records.next_logprob[stored.offsets[row] : stored.offsets[row + 1] - 1]
            self.nats -= float(predicted.sum(dtype=np.float64))
