"""A small batch for all losses, which can be divided by samples, and by rows among ranks."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
import torch.distributed as dist
from fakes import fake_vocabulary, random_logits, records_of

from xtoken_core.losses.cell_batch import CellBatch
from xtoken_core.losses.chunks import Chunks, chunks_of_tokens
from xtoken_core.losses.common import ProjectionTensors, common_tokens
from xtoken_core.losses.divergence import Divergence, DivergenceKind
from xtoken_core.losses.fast.alm import ALM
from xtoken_core.losses.fast.ce import CrossEntropy
from xtoken_core.losses.fast.chunk_table import ChunkTable
from xtoken_core.losses.fast.direct_kl import DirectKL, DirectKLTopK
from xtoken_core.losses.fast.gold import Gold
from xtoken_core.losses.fast.p_kl import PKL, ColumnEntries
from xtoken_core.losses.fast.position_term import Positions
from xtoken_core.losses.fast.prefix_kl import PrefixKL
from xtoken_core.losses.fast.shared_chunks import RowOwners, split_chunks
from xtoken_core.losses.fast.term import Term
from xtoken_core.losses.fast.uld import ULD, ULDTopK
from xtoken_core.losses.prefix_cells import PrefixCells
from xtoken_core.losses.settings import GoldSettings, KLSettings
from xtoken_core.losses.topk import TopK

SAMPLES, STUDENT_TOKENS, TEACHER_TOKENS, CHUNKS, HIDDEN = 5, 9, 11, 5, 6
TEXTS = [bytes(letters) for length in (1, 2, 3) for letters in itertools.product(b"abc", repeat=length)]
STUDENT = fake_vocabulary([*TEXTS, "</s>", None, b"zz", b"ab"])
TEACHER = fake_vocabulary([b"a", b"ab", b"b", b"cab", b"c", b"aa", b"<end>"])
STUDENT_SIZE = STUDENT.size + 2  # a padded head
TEACHER_SIZE = 31
WHOLE_VOCABULARY = ("gold", "h_kl", "uld", "uld_top_k")


@dataclass(frozen=True, eq=False)
class Problem:
    """All tensors have the samples first, then positions or chunks. position: where single positions are compared."""

    hidden: torch.Tensor
    targets: torch.Tensor
    position: torch.Tensor
    same_logits: torch.Tensor  # of a teacher with the student's tokenizer
    cell_logmass: torch.Tensor
    segment_end: torch.Tensor
    segment_cell: torch.Tensor
    teacher_logits: torch.Tensor
    teacher_logprob: torch.Tensor
    student_chunk: torch.Tensor
    teacher_chunk: torch.Tensor
    pair_valid: torch.Tensor
    pair_is_correct: torch.Tensor
    sample_mask: torch.Tensor

    @classmethod
    def random(cls, seed: int, dtype: torch.dtype) -> Self:
        random = torch.Generator().manual_seed(seed)
        student, teacher = (SAMPLES, STUDENT_TOKENS), (SAMPLES, TEACHER_TOKENS)
        cells = prefix_cells(SAMPLES * STUDENT_TOKENS, seed)
        teacher_logits = 2 * torch.randn(*teacher, TEACHER_SIZE + 1, dtype=dtype, generator=random)
        return cls(
            hidden=2 * torch.randn(*student, HIDDEN, dtype=dtype, generator=random),
            targets=torch.randint(STUDENT_SIZE, student, generator=random),
            position=torch.rand(student, generator=random) < 0.6,
            same_logits=2 * torch.randn(*student, STUDENT_SIZE, dtype=dtype, generator=random),
            cell_logmass=cells.teacher_logmass.unflatten(0, student),
            segment_end=cells.segment_end.unflatten(0, student),
            segment_cell=cells.segment_cell.unflatten(0, student),
            teacher_logits=teacher_logits,
            teacher_logprob=teacher_logits.log_softmax(-1)[..., 0],
            student_chunk=torch.randint(-1, CHUNKS, student, generator=random).sort(dim=1).values,
            teacher_chunk=torch.randint(-1, CHUNKS, teacher, generator=random).sort(dim=1).values,
            pair_valid=torch.rand(SAMPLES, CHUNKS, generator=random) < 0.9,
            pair_is_correct=torch.rand(SAMPLES, CHUNKS, generator=random) < 0.7,
            sample_mask=torch.arange(SAMPLES) != 1,
        )

    def samples(self, which: Sequence[int]) -> Self:
        """Some of them, perhaps none."""
        index = torch.tensor(which, dtype=torch.int64)
        return type(self)(*(getattr(self, field.name)[index] for field in fields(self)))

    def chunks(self) -> Chunks:
        return chunks_of_tokens(
            self.student_chunk, self.teacher_chunk, self.pair_valid, self.pair_is_correct, self.sample_mask
        )


@dataclass(frozen=True, eq=False)
class Divided:
    """Who has which row; `rank` is that in `group`, which shares the sequences."""

    owners: RowOwners
    group: dist.ProcessGroup | None = None
    rank: int = 0

    @classmethod
    def whole(cls, problem: Problem) -> Self:
        """One has all."""
        sides = problem.student_chunk, problem.teacher_chunk
        return cls(RowOwners(*(torch.zeros(side.numel(), dtype=torch.int64) for side in sides)))

    def student_rows(self) -> torch.Tensor:
        return (self.owners.student == self.rank).nonzero()[:, 0]

    def teacher_rows(self) -> torch.Tensor:
        return (self.owners.teacher == self.rank).nonzero()[:, 0]

    def table(self, chunks: Chunks) -> ChunkTable:
        if self.group is None:
            return ChunkTable.of(chunks)
        return ChunkTable.of(*split_chunks(chunks, self.owners, self.group))


def prefix_cells(positions: int, seed: int) -> CellBatch:
    records = records_of(TEACHER, random_logits(positions, TEACHER.size, seed), k=4)
    return PrefixCells.between(STUDENT, TEACHER).of(records)


def random_projection(seed: int, dtype: torch.dtype) -> ProjectionTensors:
    """Three entries a row; weights to learn. Some ids of both sides are the same, by either rule."""
    random = torch.Generator().manual_seed(seed)
    indices = torch.randint(-1, TEACHER_SIZE, (STUDENT_SIZE, 3), generator=random)
    weights = torch.rand(STUDENT_SIZE, 3, dtype=dtype, generator=random)
    clear = torch.arange(0, STUDENT_SIZE, 3)
    indices[clear, 0] = torch.randperm(TEACHER_SIZE, generator=random)[: len(clear)]
    indices[clear, 1], weights[clear, 0] = -1, 1.0
    return ProjectionTensors(indices, weights.requires_grad_())


def terms(problem: Problem, divided: Divided, projection: ProjectionTensors, columns: torch.Tensor) -> dict[str, Term]:
    """All losses of the rows that one rank has."""
    settings = KLSettings(1.5, Divergence(DivergenceKind.JSD, 0.3))
    gold_settings = GoldSettings(1.5, Divergence(), 7)
    rows, teacher_rows = divided.student_rows(), divided.teacher_rows()
    teacher = problem.teacher_logits.flatten(0, 1)[teacher_rows]
    table = divided.table(problem.chunks())
    among = problem.position.flatten()[rows].nonzero()[:, 0]
    positions, whole_rows = Positions.of(among), rows[among]
    same = problem.same_logits.flatten(0, 1)[whole_rows]
    exact, likely = (common_tokens(projection, STUDENT_SIZE, TEACHER_SIZE, threshold) for threshold in (None, 0.6))
    alm_table = divided.table(problem.chunks().only_exact())
    top, cells = top_k(same, 4), cells_at(problem, whole_rows)
    return {
        "ce": CrossEntropy(len(rows)),
        "p_kl": PKL(table, teacher, ColumnEntries.of(projection, columns, TEACHER_SIZE), settings),
        "alm": ALM(alm_table, problem.teacher_logprob.flatten()[teacher_rows], settings),
        "prefix_kl": PrefixKL(positions, cells, settings),
        "direct_kl": DirectKL(positions, same, None, STUDENT_SIZE, settings),
        "direct_kl_columns": DirectKL(positions, same, torch.arange(3, STUDENT_SIZE, 4), STUDENT_SIZE, settings),
        "direct_kl_top_k": DirectKLTopK(positions, top, STUDENT_SIZE, settings),
        "gold": Gold(table, teacher, exact, gold_settings),
        "h_kl": Gold(table, teacher, likely, replace(gold_settings, divergence=settings.divergence)),
        "uld": ULD(positions, same[:, :20], settings),
        "uld_top_k": ULDTopK(positions, top, STUDENT_SIZE, settings),
    }


def top_k(logits: torch.Tensor, k: int) -> TopK:
    logprob = logits.log_softmax(dim=-1)
    top = logprob.topk(k)
    return TopK(top.indices, top.values, torch.log1p(-top.values.exp().sum(dim=-1)))


def cells_at(problem: Problem, rows: torch.Tensor) -> CellBatch:
    names = ("cell_logmass", "segment_end", "segment_cell")
    return CellBatch(*(getattr(problem, name).flatten(0, 1)[rows] for name in names), prefix_cells(1, seed=0).order)
