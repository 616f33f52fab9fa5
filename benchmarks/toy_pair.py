"""Two tokenizers' views of the toy language: which states of student and teacher a loss compares, and how often."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from benchmarks.toy_language import SPACE, Language
from benchmarks.toy_tokens import TokenStates
from xtoken_core.losses.chunks import ChunkRows, Chunks

_NEVER = 1e-9  # items rarer than this are left out: together they are less than 1e-5 of all


@dataclass(frozen=True)
class Place:
    """Before a student token. Offsets are in the item, in bytes.

    path: the item's student tokens before it. offset: where they end. boundary: the teacher token behind the last
    boundary of the teacher that is not beyond the offset; start: that boundary.
    """

    context: int
    item: int
    path: tuple[int, ...]
    offset: int
    boundary: int
    start: int


@dataclass(frozen=True, eq=False)
class ChunkTable:
    """Chunks that differ, each with rows of its own.

    student_state, target, teacher_state: int64 [N], [N], [T], of each row. chunks: over these rows, all exact.
    weight: float [C], how often each occurs, summing to one.
    """

    student_state: torch.Tensor
    target: torch.Tensor
    teacher_state: torch.Tensor
    teacher_logprob: torch.Tensor
    chunks: Chunks
    weight: torch.Tensor

    @property
    def row_weight(self) -> torch.Tensor:
        """Of each student row, [N]."""
        return self.weight[self.chunks.student.chunk]


@dataclass(frozen=True, eq=False)
class Pair:
    """`frequency` [C, I]: how often each item is read in each context; exact probabilities, or counts of a sample."""

    language: Language
    student: TokenStates
    teacher: TokenStates
    frequency: np.ndarray

    @cached_property
    def readings(self) -> list[tuple[int, int, float]]:
        """(context, item, frequency) of everything that is read."""
        kept = np.argwhere(self.frequency > _NEVER * self.frequency.sum()).tolist()
        return [(context, item, float(self.frequency[context, item])) for context, item in kept]

    def text(self, item: int) -> bytes:
        """The bytes of an item and its space."""
        return (self.language.items[item] + SPACE).encode()

    def places(self) -> dict[tuple[int, int], tuple[Place, float]]:
        """By (student state, teacher state at the last boundary): one such place, and how often they occur."""
        found: dict[tuple[int, int], tuple[Place, float]] = {}
        for context, item, frequency in self.readings:
            for place in self._places_of(context, item):
                student = self.student.state[context][item][len(place.path)]
                key = student, self.teacher.state[context][item][place.boundary]
                found[key] = place, frequency + (found[key][1] if key in found else 0.0)
        return found

    def _places_of(self, context: int, item: int) -> Iterator[Place]:
        starts = [0, *self.teacher.ends[item][:-1]]
        path = self.student.paths[item]
        for i, offset in enumerate([0, *self.student.ends[item][:-1]]):
            boundary = max(j for j, start in enumerate(starts) if start <= offset)
            yield Place(context, item, path[:i], offset, boundary, starts[boundary])

    def chunk_table(self) -> ChunkTable:
        """The chunks between common boundaries."""
        weights: dict[tuple, float] = defaultdict(float)
        for context, item, frequency in self.readings:
            for student, teacher in self._chunks_of(item):
                rows = [
                    tuple(zip(side.state[context][item][part], side.paths[item][part], strict=True))
                    for side, part in ((self.student, student), (self.teacher, teacher))
                ]
                weights[tuple(rows)] += frequency
        return self._table(list(weights), torch.tensor(list(weights.values()), dtype=torch.float32))

    def _chunks_of(self, item: int) -> Iterator[tuple[slice, slice]]:
        ends = [side.ends[item] for side in (self.student, self.teacher)]
        begin = [0, 0]
        for offset in sorted(set(ends[0]) & set(ends[1])):
            end = [side.index(offset) + 1 for side in ends]
            yield slice(begin[0], end[0]), slice(begin[1], end[1])
            begin = end

    def _table(self, rows: list[tuple], weight: torch.Tensor) -> ChunkTable:
        sides = []
        for side in (0, 1):
            flat = torch.tensor([row for chunk in rows for row in chunk[side]])
            chunk = torch.arange(len(rows)).repeat_interleave(torch.tensor([len(chunk[side]) for chunk in rows]))
            sides.append((flat, ChunkRows(torch.arange(len(flat)), chunk)))
        (student, student_rows), (teacher, teacher_rows) = sides
        every = torch.ones(len(rows), dtype=torch.bool)
        chunks = Chunks(student_rows, teacher_rows, every, every, every)
        logprob = np.log(self.teacher.truth[teacher[:, 0].numpy(), teacher[:, 1].numpy()])
        teacher_logprob = torch.from_numpy(logprob).float()
        return ChunkTable(student[:, 0], student[:, 1], teacher[:, 0], teacher_logprob, chunks, weight / weight.sum())
