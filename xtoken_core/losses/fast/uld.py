"""uld (see `reference.uld`) of whole distributions and of records."""

from dataclasses import dataclass

import torch

from xtoken_core.losses.fast.position_term import PositionTerm
from xtoken_core.losses.fast.ranked_l1 import largest, largest_of
from xtoken_core.losses.fast.rows import StudentRows
from xtoken_core.losses.fast.term import BlockSums
from xtoken_core.losses.precision import log_softmax, scaled, upcast
from xtoken_core.losses.settings import LossSettings
from xtoken_core.losses.sums import Measure
from xtoken_core.losses.topk import TopK


@dataclass(frozen=True, eq=False)
class ULD(PositionTerm):
    """teacher_logits: [n, Vt], of each position, without a padded head's columns."""

    teacher_logits: torch.Tensor
    settings: LossSettings

    @property
    def measures(self) -> dict[Measure, int]:
        return {}

    def of(self, rows: StudentRows, row: torch.Tensor, inside: slice) -> BlockSums:
        tau = self.settings.temperature
        student = scaled(rows.all_logits()[row], tau) - rows.log_normalizer(tau)[row, None]
        teacher = log_softmax(scaled(upcast(self.teacher_logits[inside]), tau))
        shorter = min(student.shape[1], teacher.shape[1])
        ranked = largest_of(student, student.shape[1]).exp(), largest(teacher, teacher.shape[1]).exp_()
        l1 = (ranked[0][:, :shorter] - ranked[1][:, :shorter]).abs().sum()
        unpaired = sum(side[:, shorter:].sum() for side in ranked)  # the shorter list goes on with zeros
        return BlockSums((l1 + unpaired) * tau**2, l1.new_empty(0))


@dataclass(frozen=True, eq=False)
class ULDTopK(PositionTerm):
    """record: the teacher's at each position."""

    record: TopK
    student_size: int
    settings: LossSettings

    @property
    def measures(self) -> dict[Measure, int]:
        return {}

    def of(self, rows: StudentRows, row: torch.Tensor, inside: slice) -> BlockSums:
        ids = rows.top_ids(row, min(self.record.ids.shape[1], self.student_size))
        masses = [rows.picked(row, ids)]
        if ids.shape[1] < self.student_size:
            masses.append(rows.without(row, ids)[:, None])
        student = self._probs(torch.cat(masses, dim=1))[:, : ids.shape[1]]
        teacher = self._probs(upcast(self.record.rows(inside.start, inside.stop).logmass))[:, :-1]
        missing = teacher[:, student.shape[1] :].sum()  # ranks that the student's vocabulary does not have
        l1 = (student - teacher[:, : student.shape[1]]).abs().sum()
        return BlockSums((l1 + missing) * self.settings.temperature**2, l1.new_empty(0))

    def _probs(self, logmass: torch.Tensor) -> torch.Tensor:
        return scaled(logmass, self.settings.temperature).softmax(dim=-1)
