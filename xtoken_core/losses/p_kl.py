"""P-KL: the student's probabilities, projected onto the teacher's vocabulary, against the teacher's.

Both sides are averaged over a chunk's predictive positions, the student's probabilities and the teacher's
log-probabilities, and compared on the few teacher ids that are likely anywhere in the batch. The arithmetic, its small
constants included, is that of the published cross-tokenizer loss of NeMo-RL (x_token), so that numbers compare.
"""

from dataclasses import dataclass

import torch

from xtoken_core.losses.chunks import ChunkPositions, predictive_positions
from xtoken_core.losses.precision import upcast
from xtoken_core.losses.sparse_product import sparse_product
from xtoken_core.losses.sums import LossSum

_EPSILON = 1e-10


@dataclass(frozen=True)
class PKLSettings:
    """temperature: divides both sides' logits; the loss is multiplied by its square.
    vocab_topk: how many teacher ids are compared; the default is the published one.
    reverse_kl: KL(student || teacher) in place of KL(teacher || student).
    exact_token_match_only: only chunks whose two byte spans are equal count.
    """

    temperature: float = 1.0
    vocab_topk: int = 8192
    reverse_kl: bool = False
    exact_token_match_only: bool = False


@dataclass(frozen=True, eq=False)
class PKLInputs:
    """B samples of S student and T teacher positions, in up to C chunks; k projection entries a student id.

    student_logits: [B, S, Vs]; it gets a gradient, and so do `projection_weights`, but nothing else.
    teacher_logits: [B, T, columns]; only the first `teacher_size` columns are real ids.
    student_chunk, teacher_chunk: int [B, S], [B, T], the chunk of each token, -1 for none.
    pair_valid, pair_is_correct: bool [B, C], the chunk exists; its two byte spans are equal.
    sample_mask: [B], zero drops a sample from the loss.
    projection_indices, projection_weights: [Vs, k], the teacher ids of each student id (-1: empty) and their weights.
    """

    student_logits: torch.Tensor
    teacher_logits: torch.Tensor
    student_chunk: torch.Tensor
    teacher_chunk: torch.Tensor
    pair_valid: torch.Tensor
    pair_is_correct: torch.Tensor
    sample_mask: torch.Tensor
    projection_indices: torch.Tensor
    projection_weights: torch.Tensor
    teacher_size: int


@dataclass(frozen=True, eq=False)
class PKLSums:
    """loss: over the chunks that count, in nats times temperature squared.
    accuracy: how often both sides' most probable columns agree, over the same chunks and those of dropped samples; None
        where it was not asked for.
    """

    loss: LossSum
    accuracy: LossSum | None


def p_kl(
    inputs: PKLInputs, settings: PKLSettings, column_scores: torch.Tensor | None = None, accuracy: bool = False
) -> PKLSums:
    """The loss, and with `accuracy` that too, as sums for the caller to divide.

    column_scores: [teacher_size], ranks the teacher ids to compare; `column_maxima` of this batch unless given. Several
    ranks must give the same, the maximum over all of them.
    """
    scores = column_maxima(inputs) if column_scores is None else column_scores
    columns = scores.topk(min(settings.vocab_topk, inputs.teacher_size)).indices
    chunks = inputs.pair_valid.shape[1]
    student_positions = predictive_positions(inputs.student_chunk, chunks)
    teacher_positions = predictive_positions(inputs.teacher_chunk, chunks)
    student = _student_log_probs(inputs, settings, student_positions, columns)
    teacher = _teacher_log_probs(inputs, settings, teacher_positions, columns)
    usable = _usable_chunks(inputs, settings, student_positions, teacher_positions)
    counted = usable & inputs.sample_mask.bool().repeat_interleave(chunks)
    kl = _kl(student, teacher) if settings.reverse_kl else _kl(teacher, student)
    return PKLSums(
        loss=LossSum(kl[counted].sum() * settings.temperature**2, counted.sum()),
        accuracy=_agreement(student[usable], teacher[usable]) if accuracy else None,
    )


def column_maxima(inputs: PKLInputs) -> torch.Tensor:
    """The largest logit of each teacher id at any position, [teacher_size]; padding and dropped samples included."""
    return inputs.teacher_logits[..., : inputs.teacher_size].amax(dim=(0, 1))


def _student_log_probs(
    inputs: PKLInputs, settings: PKLSettings, positions: ChunkPositions, columns: torch.Tensor
) -> torch.Tensor:
    """[B * C, len(columns)]. Mean and projection are both linear, so the shorter list, the chunks, is projected."""
    logits = upcast(inputs.student_logits[positions.mask])
    chunk_probs = positions.mean((logits / settings.temperature).softmax(dim=-1))
    places, weights = _entries_in(columns, inputs)
    projected = sparse_product(chunk_probs, places, weights.to(chunk_probs.dtype), len(columns))
    return (projected / (projected.sum(dim=-1, keepdim=True) + _EPSILON) + _EPSILON).log()


def _entries_in(columns: torch.Tensor, inputs: PKLInputs) -> tuple[torch.Tensor, torch.Tensor]:
    """The projection's entries for these teacher ids: int64 [2, E], which column and student id; their weights [E]."""
    column_of = columns.new_full((inputs.teacher_size,), -1)
    column_of[columns] = torch.arange(len(columns), device=columns.device)
    indices = inputs.projection_indices.long()
    column = torch.where(indices >= 0, column_of[indices.clamp(min=0)], -1)
    student_id, entry = (column >= 0).nonzero(as_tuple=True)
    return torch.stack([column[student_id, entry], student_id]), inputs.projection_weights[student_id, entry]


def _teacher_log_probs(
    inputs: PKLInputs, settings: PKLSettings, positions: ChunkPositions, columns: torch.Tensor
) -> torch.Tensor:
    """[B * C, len(columns)]: normalised within the columns at each position; their mean over a chunk is not."""
    logits = upcast(inputs.teacher_logits[positions.mask][:, columns])
    return positions.mean((logits / settings.temperature).log_softmax(dim=-1))


def _usable_chunks(
    inputs: PKLInputs, settings: PKLSettings, student: ChunkPositions, teacher: ChunkPositions
) -> torch.Tensor:
    """The chunks that have a predictive position on both sides and are what the settings ask for, bool [B * C]."""
    wanted = inputs.pair_valid
    if settings.exact_token_match_only:
        wanted = wanted & inputs.pair_is_correct
    return wanted.flatten() & (student.counts > 0) & (teacher.counts > 0)


def _agreement(student: torch.Tensor, teacher: torch.Tensor) -> LossSum:
    agree = student.argmax(dim=-1) == teacher.argmax(dim=-1)
    return LossSum(agree.sum(), agree.new_tensor(len(agree), dtype=torch.int64))


def _kl(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """KL(left || right) of log-probabilities [N, D], nats [N]."""
    return (left.exp() * (left - right)).sum(dim=-1)
