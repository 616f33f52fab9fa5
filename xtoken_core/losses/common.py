"""The projection as the losses take it, and the tokens that two vocabularies have in common by it."""

from dataclasses import dataclass
from typing import Self

import torch


@dataclass(frozen=True, eq=False)
class ProjectionTensors:
    """For each of Vs student ids up to k teacher ids and what share of its probability each of them gets.

    indices: int [Vs, k], -1 where there is no entry. An id named twice counts twice.
    weights: float [Vs, k]; they may carry a gradient.
    """

    indices: torch.Tensor
    weights: torch.Tensor

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        return type(self)(self.indices.to(device), self.weights.to(device))

    def require_fits(self, student_size: int, teacher_size: int) -> None:
        """ValueError without columns, or unless the student has an id for each row and the teacher all named ids."""
        if not self.indices.shape[1]:
            raise ValueError(f"the projection has the shape {list(self.indices.shape)}: give at least one column")
        if len(self.indices) > student_size:
            raise ValueError(
                f"the projection has {len(self.indices)} rows, the student {student_size} ids: "
                "give the projection of these two vocabularies"
            )
        largest = int(self.indices.max()) if self.indices.numel() else -1
        if largest >= teacher_size:
            raise ValueError(
                f"the projection names the teacher id {largest}, the teacher has {teacher_size} ids: "
                "give the projection of these two vocabularies"
            )


@dataclass(frozen=True, eq=False)
class CommonTokens:
    """Pairs of ids that mean the same, and the ids of either side that are in no pair. All int64, student ids rising.

    student_ids, teacher_ids: [n], pair by pair; no id is in two pairs.
    student_rest, teacher_rest: all other ids, rising.
    """

    student_ids: torch.Tensor
    teacher_ids: torch.Tensor
    student_rest: torch.Tensor
    teacher_rest: torch.Tensor

    @property
    def student_size(self) -> int:
        """Ids of the student."""
        return len(self.student_ids) + len(self.student_rest)

    @property
    def teacher_size(self) -> int:
        """Ids of the teacher."""
        return len(self.teacher_ids) + len(self.teacher_rest)

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        return type(self)(*(ids.to(device) for ids in vars(self).values()))


def common_tokens(
    projection: ProjectionTensors, student_size: int, teacher_size: int, threshold: float | None
) -> CommonTokens:
    """The pairs of a student id with the teacher id of its largest weight, by one of two published rules.

    threshold: None is the rule of gold: the weight is exactly one and the row's second column is empty; the lowest of
        several student ids that want one teacher id gets it. A number is the rule of h_kl (published: 0.6): the weight
        is at least that; the largest weight gets the teacher id, then the lowest student id.
    student_size, teacher_size: ids of each side. Student ids without a row are in no pair.

    Raises:
        ValueError: for a projection with more rows than `student_size`, or teacher ids beyond `teacher_size`.
    """
    projection.require_fits(student_size, teacher_size)
    indices, weights = projection.indices.long(), projection.weights.detach()
    weight, slot = weights.where(indices >= 0, -torch.inf).max(dim=1)
    wanted = indices.gather(1, slot[:, None])[:, 0]
    found = _clear_rows(indices, weight, threshold).nonzero()[:, 0]
    by_weight = found[(-weight[found]).argsort(stable=True)]
    student_ids = by_weight[_first_of_each(wanted[by_weight], teacher_size)].sort().values
    teacher_ids = wanted[student_ids]
    return CommonTokens(
        student_ids, teacher_ids, _all_but(student_ids, student_size), _all_but(teacher_ids, teacher_size)
    )


def _clear_rows(indices: torch.Tensor, weight: torch.Tensor, threshold: float | None) -> torch.Tensor:
    """Which rows stand for one teacher token, bool [Vs], by the largest weight of each."""
    if threshold is not None:
        return weight >= threshold
    return (weight == 1) & (indices[:, 1:2] < 0).all(dim=1)


def _first_of_each(ids: torch.Tensor, size: int) -> torch.Tensor:
    """The place of the first occurrence of each number in `ids`, all below `size`."""
    places = torch.arange(len(ids), device=ids.device)
    first = places.new_full((size,), len(ids)).scatter_reduce(0, ids, places, "amin")
    return first[first < len(ids)]


def _all_but(ids: torch.Tensor, size: int) -> torch.Tensor:
    """The numbers below `size` that are not in `ids`, rising."""
    rest = torch.ones(size, dtype=torch.bool, device=ids.device)
    rest[ids] = False
    return rest.nonzero()[:, 0]
