"""A batch that every loss can be computed of, in either form, with gradients."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from fakes import random_logits

from xtoken_core.losses.cell_batch import CellBatch
from xtoken_core.losses.chunk_losses import alm, gold, p_kl
from xtoken_core.losses.chunks import Chunks, chunks_of_tokens
from xtoken_core.losses.common import ProjectionTensors, common_tokens
from xtoken_core.losses.fast import answers, cell_logmass, student
from xtoken_core.losses.fast.student import Head
from xtoken_core.losses.form import Impl, Student
from xtoken_core.losses.position_losses import cross_entropy, direct_kl, direct_kl_top_k, prefix_kl, uld, uld_top_k
from xtoken_core.losses.settings import GoldSettings, KLSettings
from xtoken_core.losses.sums import LossSums, Measure
from xtoken_core.losses.topk import TopK

SAMPLES, STUDENT_TOKENS, TEACHER_TOKENS, CHUNKS = 3, 11, 13, 6
ROWS, STUDENT_SIZE, TEACHER_SIZE, HIDDEN = SAMPLES * STUDENT_TOKENS, 37, 41, 5


def set_blocks(monkeypatch: pytest.MonkeyPatch, height: int) -> None:
    """Blocks of about `height` rows, pieces of two within them."""
    for name in ("_CPU_BLOCK", "_CPU_HEAD_BLOCK"):
        monkeypatch.setattr(student, name, height * STUDENT_SIZE)
    monkeypatch.setattr(answers, "_PIECE", 2 * STUDENT_SIZE)
    monkeypatch.setattr(cell_logmass, "CPU_BLOCK", 2 * STUDENT_SIZE)


@dataclass(frozen=True, eq=False)
class Batch:
    """Three samples, the second of them dropped; student and teacher logits, and all that losses take beside them."""

    logits: torch.Tensor
    teacher_logits: torch.Tensor  # three columns of a padded head
    chunks: Chunks
    weights: torch.Tensor
    indices: torch.Tensor
    targets: torch.Tensor
    record: TopK
    cells: CellBatch

    @classmethod
    def of(cls, dtype: torch.dtype, seed: int = 0, interleaved: bool = False) -> "Batch":
        """interleaved: the rows of a chunk are anywhere in their sample, so that chunks lie across each other."""
        draw = torch.Generator().manual_seed(seed)
        indices = torch.randint(-1, TEACHER_SIZE, (STUDENT_SIZE, 3), generator=draw)
        weights = torch.rand(STUDENT_SIZE, 3, generator=draw, dtype=torch.float64)
        clear = torch.arange(0, STUDENT_SIZE, 3)
        weights[clear, 0], indices[clear, 1] = 1.0, -1
        indices[clear, 0] = torch.randperm(TEACHER_SIZE, generator=draw)[: len(clear)]
        log_probs = random_logits(ROWS, STUDENT_SIZE, seed + 1).to(dtype).float().log_softmax(dim=-1)
        top = log_probs.topk(5)
        logits = random_logits(ROWS, STUDENT_SIZE, seed + 2)
        if dtype == torch.bfloat16:  # numbers that it keeps apart: equal ones have no defined rank
            ranks = logits.argsort(dim=1).argsort(dim=1)
            logits = (ranks / 4 - 4.6) * (0.7 + torch.rand(ROWS, 1, generator=draw))
        return cls(
            logits.to(dtype),
            random_logits(SAMPLES * TEACHER_TOKENS, TEACHER_SIZE + 3, seed + 3).to(dtype),
            random_chunks(draw, interleaved),
            weights.to(torch.promote_types(dtype, torch.float32)),
            indices,
            torch.randint(STUDENT_SIZE, (ROWS,), generator=draw),
            TopK(top.indices, top.values, (-top.values.exp().sum(dim=-1)).log1p()),
            random_cells(draw),
        )


def random_chunks(draw: torch.Generator, interleaved: bool) -> Chunks:
    sides = []
    for tokens in (STUDENT_TOKENS, TEACHER_TOKENS):
        ids = torch.randint(-1, CHUNKS, (SAMPLES, tokens), generator=draw)
        sides.append(ids if interleaved else ids.sort(dim=1).values)
    valid, exact = (torch.rand(SAMPLES, CHUNKS, generator=draw) > share for share in (0.1, 0.3))
    return chunks_of_tokens(*sides, valid, exact, torch.tensor([1.0, 0.0, 1.0]))


def random_cells(draw: torch.Generator) -> CellBatch:
    columns, segments = 4, 7
    ends = torch.randint(STUDENT_SIZE, (ROWS, segments), generator=draw, dtype=torch.int32).sort(dim=1).values
    ends[:, -1] = STUDENT_SIZE
    cell = torch.randint(columns, (ROWS, segments), generator=draw, dtype=torch.int32)
    logmass = torch.rand(ROWS, columns, generator=draw)
    batch = CellBatch(logmass, ends, cell, torch.randperm(STUDENT_SIZE, generator=draw).int())
    filled = torch.zeros(ROWS, columns, dtype=torch.bool).scatter(1, batch.cell_map().long(), True)
    return CellBatch(logmass.where(filled, 0.0).log().log_softmax(dim=1), *list(vars(batch).values())[1:])


Loss = Callable[[Student, Batch, KLSettings, Impl], LossSums]


def _p_kl(student: Student, batch: Batch, settings: KLSettings, impl: Impl) -> LossSums:
    projection, columns = ProjectionTensors(batch.indices, batch.weights), torch.arange(0, TEACHER_SIZE, 2).flip(0)
    return p_kl(student, batch.teacher_logits, batch.chunks, projection, columns, settings, impl)


def _gold(student: Student, batch: Batch, settings: KLSettings, impl: Impl, threshold: float | None = None) -> LossSums:
    projection = ProjectionTensors(batch.indices, batch.weights)
    common = common_tokens(projection, STUDENT_SIZE, TEACHER_SIZE, threshold)
    gold_settings = GoldSettings(settings.temperature, settings.divergence, uncommon_topk=7)
    return gold(student, batch.teacher_logits, batch.chunks, common, gold_settings, impl)


def _alm(student: Student, batch: Batch, settings: KLSettings, impl: Impl) -> LossSums:
    logprob = batch.teacher_logits.float().log_softmax(dim=-1)[:, 0]
    return alm(student, batch.targets, batch.chunks, logprob, settings, impl)


LOSSES: dict[str, Loss] = {
    "cross_entropy": lambda student, batch, _, impl: cross_entropy(student, batch.targets, impl),
    "p_kl": _p_kl,
    "gold": _gold,
    "h_kl": lambda student, batch, settings, impl: _gold(student, batch, settings, impl, 0.6),
    "alm": _alm,
    "direct_kl": lambda student, batch, settings, impl: direct_kl(
        student, batch.teacher_logits[:ROWS], None, settings, impl
    ),
    "direct_kl of columns": lambda student, batch, settings, impl: direct_kl(
        student, batch.teacher_logits[:ROWS], torch.arange(1, STUDENT_SIZE, 3), settings, impl
    ),
    "direct_kl_top_k": lambda student, batch, settings, impl: direct_kl_top_k(student, batch.record, settings, impl),
    "uld": lambda student, batch, settings, impl: uld(
        student, batch.teacher_logits[:ROWS, :TEACHER_SIZE], settings, impl
    ),
    "uld_top_k": lambda student, batch, settings, impl: uld_top_k(student, batch.record, settings, impl),
    "prefix_kl": lambda student, batch, settings, impl: prefix_kl(student, batch.cells, settings, impl),
}


@dataclass(frozen=True, eq=False)
class Found:
    """Value, counts, measures and gradients of a loss."""

    total: torch.Tensor
    counts: list[int]
    measures: dict[Measure, torch.Tensor]
    gradients: list[torch.Tensor]


def head_of(dtype: torch.dtype, seed: int = 0) -> Head:
    """Hidden states, weight and bias that want gradients."""
    hidden, weight = random_logits(ROWS, HIDDEN, seed, 1.0), random_logits(STUDENT_SIZE, HIDDEN, seed + 1, 1.0)
    bias = random_logits(1, STUDENT_SIZE, seed + 2, 1.0)[0]
    return Head(*(part.to(dtype).requires_grad_() for part in (hidden, weight, bias)))


def evaluate(loss: Loss, student: Student, batch: Batch, settings: KLSettings, impl: Impl) -> Found:
    """In that form, with the gradients of the student's tensors and of the projection's weights for twice the loss."""
    batch.weights.requires_grad_()
    wanted = [student] if isinstance(student, torch.Tensor) else list(student.tensors)
    sums = loss(student, batch, settings, impl)
    gradients = torch.autograd.grad(2 * sums.loss.total, [*wanted, batch.weights], allow_unused=True)
    return Found(
        sums.loss.total.detach(),
        [int(sums.loss.count), *(int(one.count) for one in sums.measures.values())],
        {name: one.total.double() for name, one in sums.measures.items()},
        [gradient for gradient in gradients if gradient is not None],
    )
