"""Where the student's logits come from: they are there already, or its output head makes them block by block.

With `Head` no more than a block of rows of logits exists at any time; the head's matrix product, forward and backward,
becomes a part of the loss (as Liger and cut-cross-entropy do it for cross-entropy).
"""

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.distributed as dist

# Numbers in a block of logits. On a CPU a block in float32 should stay near the caches (16 MB); with a head it must be
# tall enough for the matrix product, which reads all of the head's weights for each block; a GPU wants large kernels.
_CPU_BLOCK, _CPU_HEAD_BLOCK, _GPU_BLOCK = 1 << 21, 1 << 25, 1 << 27

Rows = slice | torch.Tensor  # a run of rows, or their numbers, int64 [n]


@dataclass(frozen=True, eq=False)
class VocabularyShard:
    """This rank's part of the vocabulary: the student ids from `first` on, as many as it has columns.

    All ranks of `group` hold the same rows of other ids, and must compute the same losses in the same order. Each then
    has the value of the whole vocabulary, the gradient of its own logits or weights, and whole gradients of everything
    else (hidden states, the terms' parameters): none of these is to be summed over the group.
    """

    first: int
    group: dist.ProcessGroup


class StudentOutput(Protocol):
    """N rows of logits over the student's ids, or over a shard of them.

    targets: int64 [N], the token that follows each row; None where no loss looks at it.
    """

    @property
    def targets(self) -> torch.Tensor | None:
        """See above."""

    @property
    def shard(self) -> VocabularyShard | None:
        """Which of the student's ids the columns are; None for all."""

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """What gets a gradient."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the logits."""

    @property
    def block_rows(self) -> int:
        """How many rows a block should have."""

    def logits(self, rows: Rows) -> torch.Tensor:
        """The logits of some rows, [n, columns], without gradient."""

    def gradients(self) -> "Gradients":
        """Zero gradients of `tensors`, to add blocks to."""


class Gradients(Protocol):
    """Gradients of a `StudentOutput`, put together from those of blocks of logits."""

    def buffer(self, first: int, last: int) -> torch.Tensor:
        """Where to write the gradient of the logits of rows first to last; its content is not defined."""

    def add(self, first: int, last: int, gradient: torch.Tensor) -> None:
        """Take in what was written to that buffer."""

    def add_again(self, rows: torch.Tensor, gradient: torch.Tensor) -> None:
        """Take in more for `rows` int64 [n], different ones that all were in a buffer before."""

    def finish(self) -> tuple[torch.Tensor, ...]:
        """The gradients, one for each of the tensors."""


@dataclass(frozen=True, eq=False)
class Logits:
    """Logits that exist, [N, columns], of any floating type."""

    values: torch.Tensor
    targets: torch.Tensor | None = None
    shard: VocabularyShard | None = None

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        return (self.values,)

    @property
    def shape(self) -> tuple[int, int]:
        return self.values.shape[0], self.values.shape[1]

    @property
    def block_rows(self) -> int:
        return _rows_of(_CPU_BLOCK, self.values)

    def logits(self, rows: Rows) -> torch.Tensor:
        return self.values.detach()[rows]

    def gradients(self) -> Gradients:
        return _LogitsGradients(torch.empty_like(self.values, requires_grad=False))


@dataclass(frozen=True, eq=False)
class Head:
    """Hidden states [N, H], an output head's weight [columns, H], bias [columns]: logits = hidden @ weight.T + bias.

    Both of one type: cast a float32 weight where the hidden states are bfloat16 (its gradient comes back in float32).
    """

    hidden: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None = None
    targets: torch.Tensor | None = None
    shard: VocabularyShard | None = None

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        return (self.hidden, self.weight) if self.bias is None else (self.hidden, self.weight, self.bias)

    @property
    def shape(self) -> tuple[int, int]:
        return self.hidden.shape[0], self.weight.shape[0]

    @property
    def block_rows(self) -> int:
        return _rows_of(_CPU_HEAD_BLOCK, self.weight.T)

    def logits(self, rows: Rows) -> torch.Tensor:
        hidden, *head = (tensor.detach() for tensor in self.tensors)
        return torch.nn.functional.linear(hidden[rows], *head)

    def gradients(self) -> Gradients:
        return _HeadGradients(self)


def _rows_of(cpu_numbers: int, logits_like: torch.Tensor) -> int:
    numbers = _GPU_BLOCK if logits_like.is_cuda else cpu_numbers
    return max(1, numbers // max(1, logits_like.shape[1]))


@dataclass(frozen=True, eq=False)
class _LogitsGradients:
    values: torch.Tensor

    def buffer(self, first: int, last: int) -> torch.Tensor:
        return self.values[first:last]

    def add(self, first: int, last: int, gradient: torch.Tensor) -> None:
        """It was written where it belongs."""

    def add_again(self, rows: torch.Tensor, gradient: torch.Tensor) -> None:
        self.values.index_add_(0, rows, gradient)

    def finish(self) -> tuple[torch.Tensor, ...]:
        return (self.values,)


class _HeadGradients:
    """Sums over blocks in float32 at least: many small bfloat16 addends would be lost."""

    def __init__(self, head: Head) -> None:
        self._head = head
        wide = torch.promote_types(head.weight.dtype, torch.float32)
        self._hidden = torch.empty_like(head.hidden, requires_grad=False)
        self._weight = torch.zeros_like(head.weight, dtype=wide, requires_grad=False)
        self._bias = None if head.bias is None else torch.zeros_like(head.bias, dtype=wide, requires_grad=False)
        self._buffer = head.hidden.new_empty(0)

    def buffer(self, first: int, last: int) -> torch.Tensor:
        if len(self._buffer) < last - first:
            self._buffer = self._head.hidden.new_empty(last - first, self._head.weight.shape[0])
        return self._buffer[: last - first]

    def add(self, first: int, last: int, gradient: torch.Tensor) -> None:
        torch.mm(gradient, self._head.weight.detach(), out=self._hidden[first:last])
        self._add_to_head(slice(first, last), gradient)

    def add_again(self, rows: torch.Tensor, gradient: torch.Tensor) -> None:
        self._hidden.index_add_(0, rows, gradient @ self._head.weight.detach())
        self._add_to_head(rows, gradient)

    def _add_to_head(self, rows: Rows, gradient: torch.Tensor) -> None:
        hidden = self._head.hidden.detach()[rows]
        if self._weight.dtype == gradient.dtype:
            self._weight.addmm_(gradient.T, hidden)
        else:
            self._weight += gradient.T @ hidden
        if self._bias is not None:
            self._bias += gradient.sum(dim=0, dtype=self._bias.dtype)

    def finish(self) -> tuple[torch.Tensor, ...]:
        if self._head.shard is not None:  # each rank knows the part of its own ids
            dist.all_reduce(self._hidden, group=self._head.shard.group)
        weight = self._weight.to(self._head.weight.dtype)
        if self._bias is None or self._head.bias is None:
            return self._hidden, weight
        return self._hidden, weight, self._bias.to(self._head.bias.dtype)
