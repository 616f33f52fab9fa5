"""What one teacher contributes to the loss of a micro-batch.

A plan is made a step ahead, in the background: it is small, and it knows how many items (boundaries, chunks) the term
sums over before the student has run, so that all ranks can agree on the divisor first. What is as wide as a vocabulary
at each position (gigabytes, for a hundred thousand tokens) comes with the term, which is made right before it is used.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, Self

import numpy as np
import torch

from trainer.teachers import TeacherData, TeacherRows
from xtoken_core.align import AlignmentBatch, prefix_boundaries
from xtoken_core.losses import CellBatch, PKLInputs, PKLSettings, PrefixCells, column_maxima, p_kl, prefix_kl
from xtoken_core.ragged import Ragged
from xtoken_core.topk import Records
from xtoken_core.vocabulary import Vocabulary

# The logit of teacher ids and positions without a record: far below any real one, and finite, so that 0 * log 0 is 0.
NO_LOGIT = -1e4
P_KL_COLUMNS = 8192  # teacher ids that p_kl compares; the published default


@dataclass(frozen=True, eq=False)
class Predictions:
    """The N tokens of a micro-batch whose next token counts.

    token: int64 [N], ascending, their places among all tokens of the micro-batch, window after window.
    targets: int64 [N], the token that follows. tokens: how many tokens there are.
    """

    token: torch.Tensor
    targets: torch.Tensor
    tokens: int

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        token, targets = (tensor.to(device, non_blocking=True) for tensor in (self.token, self.targets))
        return type(self)(token, targets, self.tokens)

    def index(self, token: np.ndarray) -> torch.Tensor:
        """Which of the N predictions is made at each `token`; every one of them must be there."""
        known = self.token.numpy()
        found = np.searchsorted(known, token)
        assert np.array_equal(known[found], token), "a boundary lies outside the loss mask"
        return torch.from_numpy(found)

    def dense(self, logits: torch.Tensor) -> torch.Tensor:
        """`logits` [N, V] at their places in a zero tensor [tokens, V]."""
        return logits.new_zeros(self.tokens, logits.shape[1]).index_put((self.token,), logits)


class TermPlan(Protocol):
    """What a step needs to know of a term beforehand, and what the term is made of."""

    @property
    def count(self) -> int:
        """How many items the total sums over."""

    @property
    def column_scores(self) -> torch.Tensor | None:
        """How likely each teacher id is anywhere in the micro-batch, for losses that compare the likeliest ids."""

    def term(self) -> "Term":
        """The term itself, on the CPU; called in a background thread."""


class Term(Protocol):
    """One teacher's part of the loss of one micro-batch, ready to be computed from the student's logits."""

    def to(self, device: torch.device) -> Self:
        """The same on another device."""

    def total(
        self,
        logits: torch.Tensor,
        predictions: Predictions,
        temperature: float,
        scores: torch.Tensor | None,
        weights: torch.Tensor | None,
    ) -> torch.Tensor:
        """The summed loss, a tensor without dimensions, from the student's `logits` [N, Vs].

        scores: `column_scores` of the plans, the maximum over all micro-batches and ranks of the step.
        weights: of the teacher's projection, [student ids, k], where they are trained; else those that it came with.
        """


TermBuilder = Callable[[TeacherRows, Predictions], TermPlan]


def term_builder(teacher: TeacherData, student: Vocabulary) -> TermBuilder:
    """What plans the terms of `teacher`: the part of the work that is the same for all batches is done here."""
    if teacher.inputs.loss == "p_kl":
        return _p_kl_builder(teacher, student)
    return _prefix_kl_builder(teacher, student)


@dataclass(frozen=True, eq=False)
class PrefixPlan:
    """prefix_kl at the boundaries where both models have read the same bytes.

    which: int64 [n], the prediction of each boundary. records: the teacher's there. cells: what makes cells of them.
    """

    which: torch.Tensor
    records: Records
    cells: PrefixCells
    column_scores: None = None

    @property
    def count(self) -> int:
        return len(self.which)

    def term(self) -> "PrefixTerm":
        return PrefixTerm(self.which, self.cells.of(self.records))


@dataclass(frozen=True, eq=False)
class PrefixTerm:
    """A `PrefixPlan` with the cells of its records."""

    which: torch.Tensor
    cells: CellBatch

    def to(self, device: torch.device) -> "PrefixTerm":
        return PrefixTerm(self.which.to(device, non_blocking=True), self.cells.to(device))

    def total(
        self,
        logits: torch.Tensor,
        predictions: Predictions,
        temperature: float,
        scores: torch.Tensor | None,
        weights: torch.Tensor | None,
    ) -> torch.Tensor:
        return prefix_kl(logits[self.which], self.cells, temperature).sum()


def _prefix_kl_builder(teacher: TeacherData, student: Vocabulary) -> TermBuilder:
    cells = PrefixCells.between(student, teacher.vocabulary)
    dummy_prefix = student.dummy_prefix or teacher.vocabulary.dummy_prefix

    def build(rows: TeacherRows, predictions: Predictions) -> TermPlan:
        found = prefix_boundaries(rows.alignment, rows.loss_mask, dummy_prefix)
        if not len(found.row):
            return NO_TERM
        records = teacher.records(rows, found.row, found.teacher_position)
        return PrefixPlan(predictions.index(rows.first_token[found.row] + found.student_position), records, cells)

    return build


@dataclass(frozen=True, eq=False)
class PKLPlan:
    """p_kl over the chunks of the micro-batch; the teacher's logits are read once for their maxima, once to be used."""

    count: int
    column_scores: torch.Tensor
    inputs: Callable[[], PKLInputs]

    def term(self) -> "PKLTerm":
        return PKLTerm(self.inputs())


@dataclass(frozen=True, eq=False)
class PKLTerm:
    """What p_kl compares, all windows as one sample without padding; the student's logits come with `total`."""

    inputs: PKLInputs

    def to(self, device: torch.device) -> "PKLTerm":
        tensors = {name: value for name, value in vars(self.inputs).items() if isinstance(value, torch.Tensor)}
        moved: dict[str, Any] = {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}
        return PKLTerm(replace(self.inputs, **moved))

    def total(
        self,
        logits: torch.Tensor,
        predictions: Predictions,
        temperature: float,
        scores: torch.Tensor | None,
        weights: torch.Tensor | None,
    ) -> torch.Tensor:
        fixed = self.inputs.projection_weights
        inputs = replace(
            self.inputs,
            student_logits=predictions.dense(logits)[None],
            projection_weights=fixed if weights is None else weights[: len(fixed)],
        )
        settings = PKLSettings(temperature=temperature, vocab_topk=P_KL_COLUMNS)
        return p_kl(inputs, settings, scores).loss.total


def _p_kl_builder(teacher: TeacherData, student: Vocabulary) -> TermBuilder:
    assert teacher.projection is not None
    indices, weights = (_tensor(p[: student.size]) for p in (teacher.projection.indices, teacher.projection.weights))

    def inputs(rows: TeacherRows, predictions: Predictions, valid: Ragged) -> PKLInputs:
        alignment = rows.alignment
        student = _predicted_chunks(alignment.student_chunk_start0, alignment.student_chunk_ends)
        teacher_chunk = _predicted_chunks(alignment.teacher_chunk_start0, alignment.teacher_chunk_ends)
        return PKLInputs(
            student_logits=torch.empty(0),
            teacher_logits=_teacher_logits(teacher, rows)[None],
            student_chunk=_placed(student, rows.first_token, predictions.tokens)[None],
            teacher_chunk=torch.from_numpy(teacher_chunk.values)[None],
            pair_valid=torch.from_numpy(valid.values)[None],
            pair_is_correct=_tensor(alignment.chunk_exact.values)[None],
            sample_mask=torch.ones(1),
            projection_indices=indices,
            projection_weights=weights,
            teacher_size=teacher.vocabulary.size,
        )

    def build(rows: TeacherRows, predictions: Predictions) -> TermPlan:
        valid = _valid_chunks(rows.alignment, rows.loss_mask)
        make = partial(inputs, rows, predictions, valid)
        return PKLPlan(int(_countable(rows.alignment, valid).sum()), column_maxima(make()), make)

    return build


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(array))


def _starts(start0: np.ndarray, ends: Ragged) -> np.ndarray:
    """Where each chunk begins, int32 [chunks]: where the one before it ends."""
    starts = np.concatenate([[0], ends.values[:-1]]).astype(np.int32)
    filled = ends.lengths > 0
    starts[ends.offsets[:-1][filled]] = start0[filled]
    return starts


def _predicted_chunks(start0: np.ndarray, ends: Ragged) -> Ragged:
    """The chunk of each token, counted through all rows; -1 for tokens that nothing predicts and those before chunk 0.

    Nothing predicts the first token of a row: the token before it is another window's.
    """
    rows = []
    for row in range(len(ends)):
        lengths = np.diff(ends.row(row), prepend=start0[row])
        chunks = np.repeat(np.arange(ends.offsets[row], ends.offsets[row + 1]), lengths)
        tokens = np.concatenate([np.full(start0[row], -1), chunks])
        tokens[:1] = -1
        rows.append(tokens)
    return Ragged.from_lists(rows, np.int64)


def _placed(values: Ragged, first: np.ndarray, length: int) -> torch.Tensor:
    """Row i of `values` from `first[i]` on in a tensor [length] that is -1 elsewhere."""
    placed = np.full(length, -1, dtype=np.int64)
    for i, start in enumerate(first.tolist()):
        placed[start : start + values.lengths[i]] = values.row(i)
    return torch.from_numpy(placed)


def _valid_chunks(alignment: AlignmentBatch, loss_mask: Ragged) -> Ragged:
    """The chunks with tokens on both sides whose student tokens all count, bool."""
    starts = _starts(alignment.student_chunk_start0, alignment.student_chunk_ends)
    ends = alignment.student_chunk_ends.values
    counted = np.concatenate([[0], np.cumsum(loss_mask.values)])
    row_start = np.repeat(loss_mask.offsets[:-1], alignment.student_chunk_ends.lengths)
    all_count = counted[row_start + ends] - counted[row_start + starts] == ends - starts
    teacher_starts = _starts(alignment.teacher_chunk_start0, alignment.teacher_chunk_ends)
    valid = all_count & (ends > starts) & (alignment.teacher_chunk_ends.values > teacher_starts)
    return Ragged(valid, alignment.student_chunk_ends.offsets)


def _countable(alignment: AlignmentBatch, valid: Ragged) -> np.ndarray:
    """Of the valid chunks those that some position predicts on both sides: not the first token of a window alone."""
    student, teacher = alignment.student_chunk_ends.values, alignment.teacher_chunk_ends.values
    return valid.values & (student > 1) & (teacher > 1)


def _teacher_logits(teacher: TeacherData, rows: TeacherRows) -> torch.Tensor:
    """The teacher's raw logits [T, Vt], window after window, put together from records that leave nothing out."""
    lengths = np.array([teacher.cache.length(place) for place in rows.place])
    which = np.repeat(np.arange(len(lengths)), lengths)
    positions = np.concatenate([np.arange(length) for length in lengths])
    records: Records = teacher.records(rows, which, positions)
    logits = np.full((len(which), teacher.vocabulary.size), NO_LOGIT, dtype=np.float32)
    values = records.topk_logprob + records.logsumexp[:, None]
    logits[np.arange(len(which))[:, None], records.topk_ids] = np.maximum(values, NO_LOGIT)
    return torch.from_numpy(logits)


@dataclass(frozen=True)
class _NoTerm:
    """The plan and the term of a micro-batch for which a teacher has nothing."""

    count: int = 0
    column_scores: None = None

    def term(self) -> "_NoTerm":
        return self

    def to(self, device: torch.device) -> "_NoTerm":
        return self

    def total(
        self,
        logits: torch.Tensor,
        predictions: Predictions,
        temperature: float,
        scores: torch.Tensor | None,
        weights: torch.Tensor | None,
    ) -> torch.Tensor:
        return logits.new_zeros(())


NO_TERM = _NoTerm()
