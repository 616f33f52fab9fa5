"""alm (see `reference.alm`) from the same few numbers of each row that cross-entropy needs."""

from dataclasses import dataclass

import torch
from torch.nn import functional

from xtoken_core.losses.fast.chunk_table import ChunkBlock
from xtoken_core.losses.fast.chunk_term import ChunkTerm, over_counted
from xtoken_core.losses.fast.rows import StudentRows
from xtoken_core.losses.fast.term import BlockSums
from xtoken_core.losses.precision import upcast
from xtoken_core.losses.reference.alm import bernoulli_kl
from xtoken_core.losses.settings import LossSettings
from xtoken_core.losses.sums import Measure


@dataclass(frozen=True, eq=False)
class ALM(ChunkTerm):
    """teacher_logprob: [T], of the token that follows each of the teacher's rows. `table` holds exact chunks alone."""

    teacher_logprob: torch.Tensor
    settings: LossSettings

    @property
    def measures(self) -> dict[Measure, int]:
        return {}

    def of(self, rows: StudentRows, chunks: ChunkBlock) -> BlockSums:
        odds = rows.target_odds()
        student = chunks.student.sum(chunks.student.take(functional.logsigmoid(odds.logit - odds.others)))
        teacher = chunks.teacher.sum(upcast(chunks.teacher.take(self.teacher_logprob)))
        nats = bernoulli_kl(teacher / self.settings.temperature, student / self.settings.temperature)
        return BlockSums(over_counted(nats, chunks.counted), nats.new_empty(0))
