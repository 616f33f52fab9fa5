"""What is recorded of a run: one typed record per step, in a JSONL file that grows with it."""

import errno
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict

from storage.errors import StorageError
from storage.files import write_atomic
from trainer.run_files import METRICS_NAME

logger = logging.getLogger(__name__)


class Reduction(StrEnum):
    """How values of many micro-batches and workers become one.

    mean: the sum of all totals divided by the sum of all counts, never a mean of means. sum: the sum of all totals.
    last: all workers have the same value.
    """

    MEAN = "mean"
    SUM = "sum"
    LAST = "last"


ByLoss = dict[str, float]  # by teacher, or `averaged` for the one loss of several


class Metrics(BaseModel):
    """One step of a run, as all workers together saw it; each field says how it is reduced over them (see `Reduction`).

    Step 0 is the student before training, only evaluated. Nats are nats, shares are between 0 and 1; a loss that does
    not measure a quantity has no entry for it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: Annotated[int, Reduction.LAST]
    epoch: Annotated[float, Reduction.LAST]  # how often the windows were seen; with source weights, those of weight 1
    seconds: Annotated[float, Reduction.LAST]  # training time over all attempts; without evaluation and checkpoints
    # kd_weight * KD + ce_weight * ce, or ce + kd_scale * KD with dynamic_scaling; KD is the weighted sum of `kd`
    loss: Annotated[float | None, Reduction.MEAN] = None
    ce: Annotated[float | None, Reduction.MEAN] = None
    accuracy: Annotated[float | None, Reduction.MEAN] = None  # how often the student's likeliest token is the next one
    kd: Annotated[ByLoss, Reduction.MEAN] = {}  # before its weight
    common_kl: Annotated[ByLoss, Reduction.MEAN] = {}  # gold, h_kl: the part of the common tokens
    uncommon_l1: Annotated[ByLoss, Reduction.MEAN] = {}  # gold, h_kl: the part of the others
    top1_agreement: Annotated[ByLoss, Reduction.MEAN] = {}  # both sides' likeliest token, cell or column is the same
    tail_mass: Annotated[ByLoss, Reduction.MEAN] = {}  # the teacher's probability outside what its records name
    exact_share: Annotated[ByLoss, Reduction.MEAN] = {}  # chunks of the alignment whose bytes are equal
    items: Annotated[ByLoss, Reduction.SUM] = {}  # chunks or positions that the loss compared
    weight: Annotated[ByLoss, Reduction.LAST] = {}  # of several teachers
    selected_teacher: Annotated[str | None, Reduction.LAST] = None
    kd_scale: Annotated[float | None, Reduction.LAST] = None  # what dynamic_scaling multiplied distillation by
    gradient_share: Annotated[ByLoss, Reduction.SUM] = {}  # by term, `ce` too: norm of its gradient of the logits
    projection_change: Annotated[ByLoss | None, Reduction.LAST] = None  # of learnt ones: mean |weight - first weight|
    projection_slot: Annotated[ByLoss | None, Reduction.LAST] = None  # mean share of a row in its scale slot
    learning_rate: Annotated[float | None, Reduction.LAST] = None
    grad_norm: Annotated[float | None, Reduction.LAST] = None  # of the one global gradient, before clipping
    tokens_per_second: Annotated[float | None, Reduction.SUM] = None  # student tokens without padding
    packing_efficiency: Annotated[float | None, Reduction.MEAN] = None  # share of tokens in what the student reads
    heldout_bits_per_byte: Annotated[float | None, Reduction.MEAN] = None  # where it was evaluated after this step


def reduction_of(name: str) -> Reduction:
    """How the field `name` of `Metrics` is reduced."""
    return next(one for one in Metrics.model_fields[name].metadata if isinstance(one, Reduction))


def parse_metrics(line: bytes) -> Metrics | None:
    """The record of one line; None for a line that was cut off while it was written."""
    try:
        return Metrics.model_validate(json.loads(line))
    except ValueError:
        return None


def read_metrics(run_folder: Path) -> list[Metrics]:
    """All records of a run so far, in the order of steps; empty where there are none yet."""
    try:
        lines = (run_folder / METRICS_NAME).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [record for record in map(parse_metrics, lines) if record is not None]


def cut_metrics(run_folder: Path, last_step: int) -> None:
    """Drop the records after `last_step`, so that a resumed run has each step once; -1 drops all.

    A file with nothing to drop stays the same file: to who follows it, a new one means that a worker was restarted.
    """
    path = run_folder / METRICS_NAME
    kept = b"".join(_line(record) for record in read_metrics(run_folder) if record.step <= last_step)
    if not path.is_file() or path.read_bytes() != kept:
        write_atomic(path, kept)


def _line(record: Metrics) -> bytes:
    values = record.model_dump(exclude_none=True)
    return json.dumps({name: value for name, value in values.items() if value != {}}).encode() + b"\n"


class MetricsFile:
    """Appends records; each line is handed to the operating system at once, so that others can follow the file."""

    def __init__(self, run_folder: Path) -> None:
        """StorageError, here and below, if the file cannot be written."""
        self._path = run_folder / METRICS_NAME
        with _explained(self._path):
            self._file = self._path.open("ab", buffering=0)

    def append(self, record: Metrics) -> None:
        """Write one record."""
        line = _line(record)
        with _explained(self._path):
            if self._file.write(line) != len(line):  # the rest of it did not fit
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def sync(self) -> None:
        """Make sure that what was written is on the disk."""
        with _explained(self._path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error}; make room, or make it writable, and run the same command again, it goes on "
            "from the newest checkpoint"
        ) from error


class MetricsTail:
    """Follows a metrics file from another process and yields each step once, in order.

    A restarted worker cuts the file and repeats steps; those were seen already and are left out.
    """

    def __init__(self, run_folder: Path, after_step: int) -> None:
        self._path = run_folder / METRICS_NAME
        self._last_step = after_step
        self._seconds: dict[int, float] = {}  # of the records seen so far, by step
        self._inode = -1
        self._offset = 0

    def new(self) -> list[Metrics]:
        """The records that came since the last call."""
        lines, is_new_file = self._new_lines()
        records = [record for record in map(parse_metrics, lines) if record is not None]
        if is_new_file and self._seconds:
            logger.warning("a worker failed and was started again: it goes on after step %d", self._kept(records))
        self._seconds |= {record.step: record.seconds for record in records}
        fresh = [record for record in records if record.step > self._last_step]
        if fresh:
            self._last_step = fresh[-1].step
        return fresh

    def _kept(self, records: list[Metrics]) -> int:
        """The last step whose record was seen before; one that was made again took another time."""
        kept = (record.step for record in records if self._seconds.get(record.step) == record.seconds)
        return max(kept, default=0)

    def _new_lines(self) -> tuple[list[bytes], bool]:
        """The complete lines that were added, and whether the file was replaced since the last call."""
        is_new_file = False
        try:
            with self._path.open("rb") as file:
                stat = os.fstat(file.fileno())
                if stat.st_ino != self._inode or stat.st_size < self._offset:
                    self._inode, self._offset, is_new_file = stat.st_ino, 0, True
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return [], False
        complete = data[: data.rfind(b"\n") + 1]
        self._offset += len(complete)
        return complete.splitlines(), is_new_file
