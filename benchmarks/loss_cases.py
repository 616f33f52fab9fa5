"""Every loss in both of its forms, on the same made-up inputs."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from benchmarks.loss_inputs import Pair, logits_type, made_up_chunks, student_logits, teacher_logits, top_k
from xtoken_core.loss_options import P_KL_COLUMNS
from xtoken_core.losses import reference
from xtoken_core.losses.cell_batch import CellBatch
from xtoken_core.losses.columns import column_maxima, likeliest
from xtoken_core.losses.common import CommonTokens
from xtoken_core.losses.fast.alm import ALM
from xtoken_core.losses.fast.blocks import compute
from xtoken_core.losses.fast.ce import CrossEntropy
from xtoken_core.losses.fast.chunk_table import ChunkTable
from xtoken_core.losses.fast.direct_kl import DirectKL, DirectKLTopK
from xtoken_core.losses.fast.gold import Gold
from xtoken_core.losses.fast.p_kl import PKL, ColumnEntries
from xtoken_core.losses.fast.position_term import Positions
from xtoken_core.losses.fast.prefix_kl import PrefixKL
from xtoken_core.losses.fast.student import Head, Logits
from xtoken_core.losses.fast.term import Term
from xtoken_core.losses.fast.uld import ULD, ULDTopK
from xtoken_core.losses.settings import GoldSettings, KLSettings, LossSettings

HIDDEN = 2048
_SETTINGS = KLSettings()

Form = Callable[[], torch.Tensor]


@dataclass(frozen=True, eq=False)
class Case:
    """Calls that give a loss of `inputs`, which get a gradient. cross_entropy: what its time is compared with."""

    inputs: tuple[torch.Tensor, ...]
    fast: Form
    reference: Form
    cross_entropy: Form


@dataclass(frozen=True, eq=False)
class Scene:
    """Where and on how many positions a case is made."""

    pair: Pair
    positions: int
    device: torch.device

    def student(self) -> torch.Tensor:
        return student_logits(self.positions, self.pair.student_size, self.device)

    def teacher(self) -> torch.Tensor:
        return teacher_logits(self.positions, self.pair.teacher_size, self.device)

    def teacher_of_same_size(self) -> torch.Tensor:
        """Of a teacher with the student's vocabulary."""
        return teacher_logits(self.positions, self.pair.student_size, self.device)

    def targets(self) -> torch.Tensor:
        return torch.randint(self.pair.student_size, (self.positions,), device=self.device)

    def case(self, student: torch.Tensor, fast: Form, reference: Form) -> Case:
        """Of logits that exist, beside torch's cross-entropy of the same."""
        targets = self.targets()
        return Case((student,), fast, reference, lambda: functional.cross_entropy(student, targets))

    def every_position(self) -> Positions:
        return Positions.of(torch.arange(self.positions))


def p_kl(scene: Scene) -> Case:
    student, teacher, chunks = scene.student(), scene.teacher(), made_up_chunks(scene.positions)
    size, projection = scene.pair.teacher_size, scene.pair.projection.to(scene.device)
    here = chunks.to(scene.device)

    def columns() -> torch.Tensor:
        return likeliest(column_maxima(teacher, size), P_KL_COLUMNS)

    def fast() -> torch.Tensor:
        term = PKL(ChunkTable.of(chunks), teacher, ColumnEntries.of(projection, columns(), size), _SETTINGS)
        return _fast(Logits(student), term)

    return scene.case(
        student, fast, lambda: reference.p_kl(student, teacher, here, projection, columns(), _SETTINGS).loss.total
    )


def gold(scene: Scene) -> Case:
    return _gold(scene, scene.pair.gold_tokens)


def h_kl(scene: Scene) -> Case:
    return _gold(scene, scene.pair.h_kl_tokens)


def _gold(scene: Scene, common: CommonTokens) -> Case:
    student, teacher, chunks = scene.student(), scene.teacher(), made_up_chunks(scene.positions)
    common, here, settings = common.to(scene.device), chunks.to(scene.device), GoldSettings()
    return scene.case(
        student,
        lambda: _fast(Logits(student), Gold(ChunkTable.of(chunks), teacher, common, settings)),
        lambda: reference.gold(student, teacher, here, common, settings).loss.total,
    )


def direct_kl(scene: Scene) -> Case:
    student, teacher, rows = scene.student(), scene.teacher_of_same_size(), scene.every_position()
    return scene.case(
        student,
        lambda: _fast(Logits(student), DirectKL(rows, teacher, None, student.shape[1], _SETTINGS)),
        lambda: reference.direct_kl(student, teacher, None, _SETTINGS).loss.total,
    )


def direct_kl_top_k(scene: Scene) -> Case:
    student, record, rows = scene.student(), top_k(scene.teacher_of_same_size()), scene.every_position()
    return scene.case(
        student,
        lambda: _fast(Logits(student), DirectKLTopK(rows, record, student.shape[1], _SETTINGS)),
        lambda: reference.direct_kl_top_k(student, record, _SETTINGS).loss.total,
    )


def uld(scene: Scene) -> Case:
    student, teacher, rows = scene.student(), scene.teacher(), scene.every_position()
    return scene.case(
        student,
        lambda: _fast(Logits(student), ULD(rows, teacher, LossSettings())),
        lambda: reference.uld(student, teacher, LossSettings()).loss.total,
    )


def uld_top_k(scene: Scene) -> Case:
    student, record, rows = scene.student(), top_k(scene.teacher()), scene.every_position()
    return scene.case(
        student,
        lambda: _fast(Logits(student), ULDTopK(rows, record, student.shape[1], LossSettings())),
        lambda: reference.uld_top_k(student, record, LossSettings()).loss.total,
    )


def alm(scene: Scene) -> Case:
    student, targets, chunks = scene.student(), scene.targets(), made_up_chunks(scene.positions)
    teacher, here = -torch.rand(scene.positions, device=scene.device), chunks.to(scene.device)
    return scene.case(
        student,
        lambda: _fast(Logits(student, targets), ALM(ChunkTable.of(chunks), teacher, LossSettings())),
        lambda: reference.alm(student, targets, here, teacher, LossSettings()).loss.total,
    )


def prefix_kl(scene: Scene) -> Case:
    student, rows = scene.student(), scene.every_position()
    cells = scene.pair.cells.rows(0, scene.positions).to(scene.device)
    return scene.case(
        student,
        lambda: _fast(Logits(student), PrefixKL(rows, cells, _SETTINGS)),
        lambda: _prefix_kl_reference(student, cells),
    )


def ce(scene: Scene) -> Case:
    student, targets = scene.student(), scene.targets()
    return scene.case(
        student,
        lambda: _fast(Logits(student, targets), CrossEntropy(len(student))),
        lambda: reference.cross_entropy(student, targets).loss.total,
    )


LOSSES = {
    case.__name__: case for case in (p_kl, gold, h_kl, direct_kl, direct_kl_top_k, uld, uld_top_k, alm, prefix_kl, ce)
}


def prefix_kl_from_hidden(scene: Scene) -> Case:
    """Fused with the student's head; and so is the cross-entropy that it is compared with."""
    size, dtype, device = scene.pair.student_size, logits_type(scene.device), scene.device
    hidden = torch.randn(scene.positions, HIDDEN, dtype=dtype, device=device).requires_grad_()
    weight = torch.randn(size, HIDDEN, dtype=dtype, device=device).mul_(0.05).requires_grad_()
    cells, rows = scene.pair.cells.rows(0, scene.positions).to(device), scene.every_position()
    head = Head(hidden, weight, targets=scene.targets())
    return Case(
        (hidden, weight),
        lambda: _fast(head, PrefixKL(rows, cells, _SETTINGS)),
        lambda: _prefix_kl_reference(hidden @ weight.T, cells),
        lambda: _fast(head, CrossEntropy(len(hidden))),
    )


def _prefix_kl_reference(logits: torch.Tensor, cells: CellBatch) -> torch.Tensor:
    return reference.prefix_kl(logits, cells, _SETTINGS).loss.total


def _fast(student: Logits | Head, term: Term) -> torch.Tensor:
    return compute(student, [term.to(student.tensors[0].device)]).loss
