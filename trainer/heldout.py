"""Bits per byte on held-out documents: the one loss that compares across tokenizers.

It is the nats of the predicted tokens, divided by ln 2 and by the bytes that these tokens spell. The first token of a
window is not predicted and its bytes do not count; with a BOS in front of the text, that is the BOS. A special token
(EOS) costs its nats and spells no bytes. The space that a tokenizer puts in front of a text is no byte of the text.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from trainer.batches import predictions_of, require_known_ids
from trainer.group import Group
from trainer.model import LossRequest
from trainer.rows import Rows, lay_out
from trainer.windows import StudentWindows, WindowSet
from xtoken_core.losses.fast.blocks import Computed
from xtoken_core.losses.fast.ce import CrossEntropy
from xtoken_core.text_bytes import token_bytes
from xtoken_core.vocabulary import Vocabulary


class Losses(Protocol):
    """A student that computes losses; see `trainer.model.Student`."""

    def __call__(self, rows: Rows, targets: torch.Tensor, request: LossRequest) -> Computed: ...


@dataclass(frozen=True)
class HeldoutScore:
    """Sums over held-out windows: nats of the predicted tokens and the bytes that these spell."""

    nats: float
    predicted_bytes: int
    windows: int

    @property
    def bits_per_byte(self) -> float:
        """The score; infinite where there was nothing to predict."""
        return self.nats / math.log(2) / self.predicted_bytes if self.predicted_bytes else math.inf


@dataclass(frozen=True, eq=False)
class Heldout:
    """The held-out windows of a corpus that fit a student."""

    student: StudentWindows
    windows: WindowSet
    vocabulary: Vocabulary
    batch_windows: int

    @torch.no_grad()
    def score(self, student: Losses, group: Group) -> HeldoutScore:
        """Measure `student`; the ranks share the windows and all get the same score."""
        share = self.windows.by_length().take(np.arange(group.rank, len(self.windows), group.world_size))
        starts = range(0, len(share), self.batch_windows)
        parts = [self._sums(share.take(slice(start, start + self.batch_windows)), student, group) for start in starts]
        nats, spelled = group.sum(np.sum([(0.0, 0.0), *parts], axis=0))
        return HeldoutScore(float(nats), int(spelled), len(self.windows))

    def _sums(self, windows: WindowSet, student: Losses, group: Group) -> tuple[float, float]:
        ids, loss_mask = self.student.tokens(windows)
        require_known_ids(ids, self.vocabulary, self.student)
        predictions = predictions_of(ids, loss_mask)
        rows = lay_out(ids, np.arange(len(ids)), predictions.token).to(group.device)
        cross_entropy = LossRequest([CrossEntropy(len(predictions.targets))], torch.ones(1, device=group.device))
        nats = student(rows, predictions.targets.to(group.device), cross_entropy).sums[0].loss.total
        predicted = predictions.token.numpy() + 1
        return float(nats), float(token_bytes(ids, self.vocabulary)[predicted].sum())
