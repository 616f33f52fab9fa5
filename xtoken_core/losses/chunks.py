"""Which rows of logits predict the tokens of each chunk of an alignment, on both sides."""

from dataclasses import dataclass, fields, replace
from typing import Self

import torch


@dataclass(frozen=True, eq=False)
class ChunkRows:
    """One side: row `row[i]` of its logits predicts a token of chunk `chunk[i]`; both int64 [n], chunks ascending."""

    row: torch.Tensor
    chunk: torch.Tensor

    def counts(self, chunks: int) -> torch.Tensor:
        """How many rows each of `chunks` chunks has, int64 [chunks]."""
        return torch.bincount(self.chunk, minlength=chunks)

    def mean(self, values: torch.Tensor, chunks: int) -> torch.Tensor:
        """Mean of `values` [n, D], one for each row here, over each chunk, [chunks, D]; zero for one without any."""
        sums = values.new_zeros(chunks, values.shape[1]).index_add(0, self.chunk, values)
        return sums / self.counts(chunks).clamp(min=1)[:, None]

    def sum(self, values: torch.Tensor, chunks: int) -> torch.Tensor:
        """Sum of `values` [n] over each chunk, [chunks]."""
        return values.new_zeros(chunks).index_add(0, self.chunk, values)

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        return type(self)(self.row.to(device, non_blocking=True), self.chunk.to(device, non_blocking=True))


@dataclass(frozen=True, eq=False)
class Chunks:
    """C chunks, numbered through the batch.

    usable: bool [C], there is such a chunk and both sides have rows for it. counted: bool [C], usable and not of a
    dropped sample: what losses sum over. exact: bool [C], the two byte spans are equal.
    """

    student: ChunkRows
    teacher: ChunkRows
    usable: torch.Tensor
    counted: torch.Tensor
    exact: torch.Tensor

    def __len__(self) -> int:
        return len(self.counted)

    def only_exact(self) -> Self:
        """The same, but inexact chunks are neither usable nor counted."""
        return replace(self, usable=self.usable & self.exact, counted=self.counted & self.exact)

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        return type(self)(*(getattr(self, field.name).to(device) for field in fields(self)))


def chunks_of_tokens(
    student_chunk: torch.Tensor,
    teacher_chunk: torch.Tensor,
    pair_valid: torch.Tensor,
    pair_is_correct: torch.Tensor,
    sample_mask: torch.Tensor,
) -> Chunks:
    """Chunks of B samples of S student and T teacher tokens in up to C chunks; rows are positions, sample after sample.

    student_chunk, teacher_chunk: int [B, S], [B, T], the chunk of each *token*, -1 for none.
    pair_valid, pair_is_correct: bool [B, C], the chunk exists; its two byte spans are equal.
    sample_mask: [B], zero drops a sample from the losses.

    Raises:
        ValueError: for a chunk id that is neither -1 nor below C.
    """
    chunks = pair_valid.shape[1]
    student = _rows("student_chunk", student_chunk, chunks)
    teacher = _rows("teacher_chunk", teacher_chunk, chunks)
    both = (student.counts(pair_valid.numel()) > 0) & (teacher.counts(pair_valid.numel()) > 0)
    usable = pair_valid.flatten().bool() & both
    counted = usable & sample_mask.bool().repeat_interleave(chunks)
    return Chunks(student, teacher, usable, counted, pair_is_correct.flatten().bool())


def _rows(name: str, token_chunk: torch.Tensor, chunks: int) -> ChunkRows:
    """Position p predicts token p + 1, so it belongs to that token's chunk; the last position belongs to none."""
    _require_range(name, token_chunk, chunks)
    predicted = torch.full_like(token_chunk, -1, dtype=torch.int64)
    predicted[:, :-1] = token_chunk[:, 1:]
    sample = torch.arange(len(predicted), device=predicted.device)[:, None]
    row = (predicted >= 0).flatten().nonzero()[:, 0]
    chunk = (sample * chunks + predicted).flatten()[row]
    order = chunk.argsort(stable=True)
    return ChunkRows(row[order], chunk[order])


def _require_range(name: str, token_chunk: torch.Tensor, chunks: int) -> None:
    if not token_chunk.numel():
        return
    lowest, highest = int(token_chunk.min()), int(token_chunk.max())
    if lowest < -1 or highest >= chunks:
        wrong = lowest if lowest < -1 else highest
        raise ValueError(f"{name} holds the chunk id {wrong}: ids are 0 to {chunks - 1}, as pair_valid has it, or -1")
