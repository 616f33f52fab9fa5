"""All losses of a student in one pass over blocks of its logits, gradients included.

The gradient is computed in the forward pass, block by block, while the block's logits are there: the backward pass only
scales it. So nothing as large as the logits is kept, an output head multiplies each block once, whatever the number of
losses, and extra memory does not grow with the number of rows.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch.autograd.function import once_differentiable

from xtoken_core.losses.fast.rows import StudentRows
from xtoken_core.losses.fast.student import Gradients, Rows, StudentOutput
from xtoken_core.losses.fast.term import BlockSums, SharedPart, Term, block_bounds
from xtoken_core.losses.precision import upcast
from xtoken_core.losses.sums import LossSum, LossSums


@dataclass(frozen=True, eq=False)
class Computed:
    """loss: the sum of factor times total over the terms, to differentiate. sums: of each term, without gradient.

    gradient_norms: float [terms], the norm of each term's gradient of the logits, its factor included; None if not
        asked. Of this rank's rows and the whole vocabulary: over ranks with other rows their squares add up.
    finite: bool, neither a total nor a row's normalizer that a term asked for is nan or inf.
    """

    loss: torch.Tensor
    sums: tuple[LossSums, ...]
    gradient_norms: torch.Tensor | None
    finite: torch.Tensor


def compute(
    student: StudentOutput, terms: Sequence[Term], factors: torch.Tensor | None = None, norms: bool = False
) -> Computed:
    """`terms` of the student, weighted with `factors` [terms] (all one unless given).

    The gradient reaches the tensors of `student` and the parameters of the terms. Ranks that share a vocabulary or
    chunks (see `VocabularyShard`, `shared_chunks`) compute the same terms in the same order, and scale the gradient
    alike.

    Raises:
        ValueError: for a part of a vocabulary with a loss that needs all of it (gold, h_kl, uld).
    """
    parameters = [parameter for term in terms for parameter in term.parameters]
    if factors is None:
        factors = torch.ones(len(terms), device=student.tensors[0].device)
    run = _Pass(student, tuple(terms), factors, norms)
    if torch.is_grad_enabled():
        loss = _Blockwise.apply(run, *student.tensors, *parameters)
    else:  # autograd says even then that weights need a gradient
        run.everything(())
        loss = run.loss
    return Computed(loss, run.sums(), run.squares.sqrt() if norms else None, run.finite)


class _Blockwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, run: "_Pass", *tensors: torch.Tensor) -> torch.Tensor:
        ctx.gradients = run.everything(ctx.needs_input_grad[1:])
        return run.loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None  # held nowhere else, autograd takes them without a copy
        if gradients is None:
            raise RuntimeError("the gradient of fast losses is given away by backward(): it works once")
        return None, *(None if own is None else own.mul_(gradient) for own in gradients)


class _Pass:
    """One pass over the blocks, and what it has summed up."""

    def __init__(self, student: StudentOutput, terms: tuple[Term, ...], factors: torch.Tensor, norms: bool) -> None:
        self._student, self._terms, self._factors, self._norms = student, terms, factors, norms
        self._parameters = [parameter for term in terms for parameter in term.parameters]
        like = upcast(student.tensors[0].new_empty(0))
        self._in_range = torch.ones((), dtype=torch.bool, device=like.device)
        self.totals, self.squares = like.new_zeros(len(terms)), like.new_zeros(len(terms))
        self._of_parameters = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._measured = [like.new_zeros(len(term.measures)) for term in terms]

    @property
    def loss(self) -> torch.Tensor:
        return (self._factors * self.totals).sum()

    @property
    def finite(self) -> torch.Tensor:
        return self._in_range & self.totals.isfinite().all()

    def sums(self) -> tuple[LossSums, ...]:
        """What each term summed to."""
        return tuple(
            LossSums(
                LossSum(total, _count(term.count, total)),
                {
                    measure: LossSum(measured, _count(count, total))
                    for (measure, count), measured in zip(term.measures.items(), values, strict=True)
                },
            )
            for term, total, values in zip(self._terms, self.totals, self._measured, strict=True)
        )

    def everything(self, needed: Sequence[bool]) -> list[torch.Tensor | None]:
        """The gradients of the tensors of the student and of the parameters, None where not needed."""
        into = self._student.gradients() if any(needed) else None
        bounds = block_bounds(self._student.shape[0], _height(self._student), [term.spans for term in self._terms])
        for first, last in itertools.pairwise(bounds):
            self._block(first, last, into)
        for index, term in enumerate(self._terms):
            if term.shared is not None:
                self._shared(index, term.shared, into)
        if into is None:
            return [None] * len(needed)
        if self._norms and self._student.shard is not None:
            dist.all_reduce(self.squares, group=self._student.shard.group)
        gradients = [*into.finish(), *self._of_parameters]
        return [gradient if wanted else None for gradient, wanted in zip(gradients, needed, strict=True)]

    def _block(self, first: int, last: int, into: Gradients | None) -> None:
        rows = self._rows(slice(first, last), into is not None)
        with torch.set_grad_enabled(into is not None):
            parts = {index: term.block(rows, first) for index, term in enumerate(self._terms)}
        self._in_range &= rows.in_range()
        found = {index: part for index, part in parts.items() if part is not None}
        self._count(found)
        if into is not None:
            self._add_to_parameters(self._differentiate(rows, found, into.buffer(first, last)))
            into.add(first, last, into.buffer(first, last))

    def _shared(self, index: int, shared: SharedPart, into: Gradients | None) -> None:
        """All ranks know all of the items' sums and of the parameters' gradient, and the gradient of their own rows."""
        rows = self._rows(shared.row, into is not None)
        with torch.set_grad_enabled(into is not None):
            part = {index: shared.sums(rows)}
        if shared.is_counted:
            self._count(part)
        if into is not None:
            out = rows.new_gradient()
            of_parameters = self._differentiate(rows, part, out)
            into.add_again(shared.row, out)
            if shared.is_counted:
                self._add_to_parameters(of_parameters)

    def _rows(self, rows: Rows, differentiable: bool) -> StudentRows:
        targets = None if self._student.targets is None else self._student.targets[rows]
        return StudentRows(self._student.logits(rows), targets, self._student.shard, differentiable)

    def _count(self, parts: Mapping[int, BlockSums]) -> None:
        for index, part in parts.items():
            self.totals[index] += part.loss.detach()
            self._measured[index] += part.measured

    @torch.no_grad()
    def _differentiate(
        self, rows: StudentRows, parts: Mapping[int, BlockSums], out: torch.Tensor
    ) -> Sequence[torch.Tensor | None]:
        """Write the gradient of the rows' logits to `out`; that of the parameters."""
        with torch.enable_grad():
            losses = {i: self._factors[i] * part.loss for i, part in parts.items() if part.loss.requires_grad}
        wanted = [*rows.answers, *self._parameters]
        if self._norms:
            gradients = self._with_squares(rows, losses, wanted, out)
        else:
            gradients = _gradients([*losses.values()], wanted)
        rows.write_gradient(gradients[: len(rows.answers)], out)
        return gradients[len(rows.answers) :]

    def _with_squares(
        self, rows: StudentRows, losses: Mapping[int, torch.Tensor], wanted: list[torch.Tensor], out: torch.Tensor
    ) -> Sequence[torch.Tensor | None]:
        """Of all losses together, from one backward pass for each: a second one would find them used up."""
        gradients = _gradients([], wanted)
        for index, loss in losses.items():
            own = _gradients([loss], wanted, keep=True)  # what several losses ask for is kept for the next one
            rows.write_gradient(own[: len(rows.answers)], out)
            self.squares[index] += upcast(out).square().sum()
            gradients = tuple(map(_added, gradients, own))
        return gradients

    def _add_to_parameters(self, gradients: Sequence[torch.Tensor | None]) -> None:
        for total, gradient in zip(self._of_parameters, gradients, strict=True):
            if gradient is not None:
                total += gradient


def _height(student: StudentOutput) -> int:
    """Rows of a block: the same for all ranks of a vocabulary, whose parts of it may differ in size."""
    if student.shard is None:
        return student.block_rows
    height = torch.tensor(student.block_rows, device=student.tensors[0].device)
    dist.all_reduce(height, dist.ReduceOp.MIN, group=student.shard.group)
    return int(height)


def _gradients(
    losses: list[torch.Tensor], wanted: Sequence[torch.Tensor], keep: bool = False
) -> tuple[torch.Tensor | None, ...]:
    if not losses:
        return (None,) * len(wanted)
    return torch.autograd.grad(losses, wanted, allow_unused=True, retain_graph=keep)


def _added(one: torch.Tensor | None, other: torch.Tensor | None) -> torch.Tensor | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other


def _count(count: int, like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(count, device=like.device)
