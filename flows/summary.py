"""The outcome of a run in numbers: `summary.json`."""

import math
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from flows.config import RunConfig
from flows.runs import CE, DISTILLED, RunData
from flows.stopwatch import Stopwatch
from storage.artifact import Artifact
from storage.records import StoredRecords
from trainer.job import TrainResult


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
            name: _held_out_bits(data.prepared.windows, cache) for name, cache in data.caches.items()
        },
        trainings=trainings,
        exact_byte_share={
            name: manifest.total("n_exact_bytes") / manifest.total("n_bytes") for name, manifest in alignments.items()
        },
        seconds=watch.seconds,
    )


def _held_out_bits(windows: Artifact, cache: Artifact) -> float:
    """A teacher's bits per byte on held-out windows, from its cached scores; nan where nothing is held out.

    A teacher without BOS does not predict the first token of a window: its bytes are counted all the same, which
    flatters it by under a percent at windows of hundreds of bytes.
    """
    nats, size = 0.0, 0
    for index in range(len(windows)):
        table = windows.table(index)
        held_out = table["window_id"].to_numpy()[np.array(table["split"].to_pylist()) == "heldout"]
        stored = StoredRecords.from_table(cache.table(index))
        rows = np.flatnonzero(np.isin(stored.window_ids, held_out))
        nats -= sum(_next_logprob_sum(stored, row) for row in rows)
        lengths = table["byte_end"].to_numpy() - table["byte_start"].to_numpy()
        size += int(lengths[np.isin(table["window_id"].to_numpy(), stored.window_ids[rows])].sum())
    return nats / math.log(2) / size if size else math.nan


def _next_logprob_sum(stored: StoredRecords, row: int) -> float:
    positions = slice(stored.offsets[row], stored.offsets[row + 1])
    return float(np.nansum(stored.records.next_logprob[positions]))
