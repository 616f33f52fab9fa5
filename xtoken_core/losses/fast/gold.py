"""gold and h_kl (see `reference.gold`): a mean of log-probabilities is that of logits, and that of their logsumexp."""

from dataclasses import dataclass
from functools import cached_property

import torch

from xtoken_core.loss_options import DivergenceKind
from xtoken_core.losses.common import CommonTokens
from xtoken_core.losses.fast.chunk_table import ChunkBlock, ChunkSlice
from xtoken_core.losses.fast.chunk_term import ChunkTerm, largest_place, over_counted
from xtoken_core.losses.fast.divergences import divergence, forward_kl_of_logits
from xtoken_core.losses.fast.ranked_l1 import ranked_l1
from xtoken_core.losses.fast.rows import StudentRows
from xtoken_core.losses.fast.term import BlockSums
from xtoken_core.losses.precision import scaled, upcast
from xtoken_core.losses.settings import GoldSettings
from xtoken_core.losses.sums import Measure


@dataclass(frozen=True, eq=False)
class Gold(ChunkTerm):
    """teacher_logits: [T, columns]; columns beyond the teacher ids of `common` are a padded head's."""

    teacher_logits: torch.Tensor
    common: CommonTokens
    settings: GoldSettings

    @cached_property
    def teacher_of(self) -> torch.Tensor:
        """The teacher id of each student id, int64 [Vs]; any for those that are in no pair."""
        paired = self.common.student_ids.new_zeros(self.common.student_size)
        return paired.index_copy(0, self.common.student_ids, self.common.teacher_ids)

    @property
    def measures(self) -> dict[Measure, int]:
        return dict.fromkeys((Measure.TOP1_AGREEMENT, Measure.COMMON_KL, Measure.UNCOMMON_L1), self.count)

    def of(self, rows: StudentRows, chunks: ChunkBlock) -> BlockSums:
        tau, topk = self.settings.temperature, self.settings.uncommon_topk
        asked = rows.all_logits(), rows.columns(self.common.student_rest)
        student, student_rest = (scaled(chunks.student.mean(chunks.student.take(logits)), tau) for logits in asked)
        normalizer = chunks.student.mean(chunks.student.take(rows.log_normalizer(tau)[:, None]))
        teacher, teacher_rest = self._teacher(chunks.teacher)
        agree = self._same_largest(teacher, student.detach())
        kl = self._common_kl(teacher, student, normalizer)  # uses up the teacher's side
        l1 = ranked_l1(student_rest, normalizer, teacher_rest, topk)
        measured = torch.stack([over_counted(part.detach(), chunks.counted) for part in (agree, kl, l1)])
        return BlockSums(over_counted(kl + l1, chunks.counted) * tau**2, measured)

    def _teacher(self, chunks: ChunkSlice) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean log-probabilities: of the student's ids, [chunks, Vs], -inf outside pairs; of the teacher's other ids.

        The teacher's columns go into the student's order, so that the student's, which get a gradient, stay in theirs.
        """
        logits = upcast(chunks.take(self.teacher_logits)[:, : self.common.teacher_size])
        logits = scaled(logits, self.settings.temperature)
        means = chunks.mean(logits) - chunks.mean(logits.logsumexp(dim=-1, keepdim=True))
        paired = gather_columns(means, self.teacher_of).index_fill_(1, self.common.student_rest, -torch.inf)
        return paired, gather_columns(means, self.common.teacher_rest)

    def _same_largest(self, teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
        """bool [chunks]: no common token has a larger student logit than the teacher's best one; False for none."""
        if not len(self.common.student_ids):
            return torch.zeros(len(teacher), dtype=torch.bool, device=teacher.device)
        best = student.gather(1, largest_place(teacher))[:, 0]
        return best >= gather_columns(student, self.common.student_ids).amax(dim=-1)

    def _common_kl(self, teacher: torch.Tensor, logits: torch.Tensor, normalizer: torch.Tensor) -> torch.Tensor:
        """[chunks]; ids outside pairs have no teacher probability, which leaves them out of the forward KL alone."""
        if self.settings.divergence.kind == DivergenceKind.FORWARD:
            return forward_kl_of_logits(teacher, logits, normalizer[:, 0])
        teacher, logits = (gather_columns(side, self.common.student_ids) for side in (teacher, logits))
        return divergence(self.settings.divergence, teacher, logits - normalizer)


def gather_columns(values: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """`values` [n, D] at the columns `ids` [k], [n, k]: with one list of ids twice as fast as index_select."""
    return values.gather(1, ids.expand(len(values), -1))
