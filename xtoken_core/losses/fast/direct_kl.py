"""direct_kl (see `reference.direct_kl`) of whole distributions and of records."""

from dataclasses import dataclass, replace

import torch

from xtoken_core.losses.fast.chunk_term import same_largest
from xtoken_core.losses.fast.divergences import divergence
from xtoken_core.losses.fast.position_term import PositionTerm
from xtoken_core.losses.fast.prefix_kl import mass_divergence
from xtoken_core.losses.fast.rows import StudentRows
from xtoken_core.losses.fast.term import BlockSums
from xtoken_core.losses.precision import log_softmax, scaled, upcast
from xtoken_core.losses.settings import KLSettings
from xtoken_core.losses.sums import Measure
from xtoken_core.losses.topk import TopK


@dataclass(frozen=True, eq=False)
class DirectKL(PositionTerm):
    """teacher_logits: [n, columns], of each position. columns: int64 [K], the ids to compare; None for all."""

    teacher_logits: torch.Tensor
    columns: torch.Tensor | None
    student_size: int
    settings: KLSettings

    @property
    def measures(self) -> dict[Measure, int]:
        return {Measure.TOP1_AGREEMENT: self.count}

    def of(self, rows: StudentRows, row: torch.Tensor, inside: slice) -> BlockSums:
        tau = self.settings.temperature
        left, right = log_softmax(scaled(self._teacher(inside), tau)), self._student(rows)[row]
        loss = divergence(self.settings.divergence, left, right).sum() * tau**2
        return BlockSums(loss, same_largest(left, right).sum()[None])

    def _student(self, rows: StudentRows) -> torch.Tensor:
        tau = self.settings.temperature
        if self.columns is not None:
            return log_softmax(scaled(rows.columns(self.columns), tau))
        if rows.is_sharded:  # a block's logits of all ranks are put together
            everything = torch.arange(self.student_size, device=self.teacher_logits.device)
            return log_softmax(scaled(rows.columns(everything), tau))
        return scaled(rows.all_logits(), tau) - rows.log_normalizer(tau)[:, None]

    def _teacher(self, inside: slice) -> torch.Tensor:
        logits = self.teacher_logits[inside]
        return upcast(logits[:, : self.student_size] if self.columns is None else logits[:, self.columns])


@dataclass(frozen=True, eq=False)
class DirectKLTopK(PositionTerm):
    """record: the teacher's at each position; where it stores all `student_size` ids, its rest is left out."""

    record: TopK
    student_size: int
    settings: KLSettings

    @property
    def measures(self) -> dict[Measure, int]:
        return dict.fromkeys((Measure.TOP1_AGREEMENT, Measure.TAIL_MASS), self.count)

    def of(self, rows: StudentRows, row: torch.Tensor, inside: slice) -> BlockSums:
        record = self.record.rows(inside.start, inside.stop)
        ids, teacher = record.ids.long(), record.logmass
        student = torch.cat([rows.picked(row, ids), rows.without(row, ids)[:, None]], dim=1)
        if ids.shape[1] == self.student_size:
            teacher, student = (side.index_fill(1, row.new_tensor([-1]), -torch.inf) for side in (teacher, student))
        sums = mass_divergence(teacher, student, self.settings)
        return replace(sums, loss=sums.loss * self.settings.temperature**2)
