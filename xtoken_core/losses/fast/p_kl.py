"""p_kl (see `reference.p_kl`) that computes with the student ids that reach the compared columns, and no others."""

from dataclasses import dataclass
from typing import Self

import torch

from xtoken_core.losses.common import ProjectionTensors
from xtoken_core.losses.fast.chunk_table import ChunkBlock, ChunkSlice
from xtoken_core.losses.fast.chunk_term import ChunkTerm, over_counted, same_largest
from xtoken_core.losses.fast.divergences import divergence
from xtoken_core.losses.fast.rows import StudentRows
from xtoken_core.losses.fast.term import BlockSums
from xtoken_core.losses.precision import log_softmax, scaled, upcast
from xtoken_core.losses.settings import KLSettings
from xtoken_core.losses.sums import Measure

_EPSILON = 1e-10


@dataclass(frozen=True, eq=False)
class ColumnEntries:
    """The E entries of a projection that lead to K columns, from U different student ids.

    columns: int64 [K], teacher ids. ids: int64 [U], student ids, rising.
    place, source: int64 [E], to which of the columns, from which of the ids. weights: [E], they may carry a gradient.
    """

    columns: torch.Tensor
    ids: torch.Tensor
    place: torch.Tensor
    source: torch.Tensor
    weights: torch.Tensor

    @classmethod
    def of(cls, projection: ProjectionTensors, columns: torch.Tensor, teacher_size: int) -> Self:
        """The entries of `projection` for these columns."""
        place_of = columns.new_full((teacher_size,), -1)
        place_of[columns] = torch.arange(len(columns), device=columns.device)
        indices = projection.indices.long()
        place = torch.where(indices >= 0, place_of[indices.clamp(min=0)], -1)
        student_id, slot = (place >= 0).nonzero(as_tuple=True)
        ids, source = student_id.unique(return_inverse=True)
        return cls(columns, ids, place[student_id, slot], source, projection.weights[student_id, slot])

    def project(self, probs: torch.Tensor) -> torch.Tensor:
        """Probabilities of the `ids`, [n, U], as masses of the columns, [n, K]."""
        shares = probs[:, self.source] * self.weights.to(probs.dtype)
        return probs.new_zeros(len(probs), len(self.columns)).index_add(1, self.place, shares)

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        return type(self)(*(value.to(device, non_blocking=True) for value in vars(self).values()))


@dataclass(frozen=True, eq=False)
class PKL(ChunkTerm):
    """teacher_logits: [T, columns]; `entries` say which columns are compared."""

    teacher_logits: torch.Tensor
    entries: ColumnEntries
    settings: KLSettings

    @property
    def measures(self) -> dict[Measure, int]:
        return {Measure.TOP1_AGREEMENT: self.table.usable_count}

    @property
    def parameters(self) -> tuple[torch.Tensor, ...]:
        return (self.entries.weights,) if self.entries.weights.requires_grad else ()

    def of(self, rows: StudentRows, chunks: ChunkBlock) -> BlockSums:
        student, teacher = self._student(rows, chunks.student), self._teacher(chunks.teacher)
        total = over_counted(divergence(self.settings.divergence, teacher, student), chunks.counted)
        agree = same_largest(teacher, student).sum()[None]
        return BlockSums(total * self.settings.temperature**2, agree)

    def _student(self, rows: StudentRows, chunks: ChunkSlice) -> torch.Tensor:
        tau = self.settings.temperature
        log_probs = scaled(rows.columns(self.entries.ids), tau) - rows.log_normalizer(tau)[:, None]
        projected = self.entries.project(chunks.mean(chunks.take(log_probs).exp()))
        return (projected / (projected.sum(dim=-1, keepdim=True) + _EPSILON) + _EPSILON).log()

    def _teacher(self, chunks: ChunkSlice) -> torch.Tensor:
        logits = upcast(self.teacher_logits[chunks.row[:, None], self.entries.columns])
        return chunks.mean(log_softmax(scaled(logits, self.settings.temperature)))
