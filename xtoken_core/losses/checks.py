"""Bad input to a loss, said before it becomes a nan: which tensor, its value, the bound, and what to do.

All but `require_finite` and `require_no_nan` look at shapes and lists of ids only, so every loss calls them where it is
entered. Floating types may differ: each side is widened on its own.
"""

from collections.abc import Mapping

import torch

from xtoken_core.losses.chunks import ChunkRows, Chunks
from xtoken_core.losses.common import CommonTokens


def require_finite(name: str, logits: torch.Tensor, first_row: int = 0) -> None:
    """ValueError unless every row of `logits` [N, V] is free of nan and +inf and has some number above -inf.

    first_row: what the first of the rows is called. It reads all of `logits`.
    -inf beside finite numbers is legal: such a token has no probability.
    """
    if not logits.numel():
        return
    largest = logits.amax(dim=-1)  # nan if there is one in the row
    wrong = (~largest.isfinite()).nonzero()[:, 0]
    if len(wrong):
        row = int(wrong[0])
        value = float(largest[row])
        raise ValueError(
            f"{name} has {'nothing but -inf' if value == -torch.inf else value} in row {first_row + row}: "
            "give finite logits, or -inf beside finite ones"
        )


def require_no_nan(name: str, logmass: torch.Tensor) -> None:
    """ValueError unless `logmass` [N] or [N, M] is free of nan and +inf; -inf is a probability of zero."""
    wrong = (~(logmass < torch.inf)).nonzero()
    if len(wrong):
        row = int(wrong[0, 0])
        raise ValueError(f"{name} has {float(logmass[tuple(wrong[0])])} in row {row}: give logarithms of probabilities")


def require_logits(name: str, logits: torch.Tensor) -> None:
    """ValueError unless `logits` are floating numbers [N, V] with some column."""
    if not logits.is_floating_point():
        raise ValueError(f"{name} has the type {logits.dtype}: give floating numbers")
    if logits.dim() != 2:
        raise ValueError(f"{name} has the shape {list(logits.shape)}: flatten batch and positions, [rows, ids]")
    if not logits.shape[1]:
        raise ValueError(f"{name} has the shape {list(logits.shape)}: give at least one id")


def require_head(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
    """ValueError unless hidden states [N, H] go with a head's weight [Vs, H] and bias [Vs] of the same type."""
    require_logits("hidden", hidden)
    require_logits("weight", weight)
    parts = {"hidden": hidden, "weight": weight} | ({} if bias is None else {"bias": bias})
    require_same_device(**parts)
    types = {name: part.dtype for name, part in parts.items()}
    if len(set(types.values())) > 1:
        raise ValueError(f"the types differ, {_listed(types)}: cast the head to that of the hidden states")
    shapes = {name: list(part.shape) for name, part in parts.items()}
    if hidden.shape[1] != weight.shape[1] or not len(weight) or (bias is not None and bias.shape != weight.shape[:1]):
        raise ValueError(f"the shapes do not fit, {_listed(shapes)}: give hidden [N, H], weight [Vs, H], bias [Vs]")


def require_targets(targets: torch.Tensor, size: int) -> None:
    """ValueError unless `targets` are one id of the student for each row, [N]."""
    if targets.dim() != 1:
        raise ValueError(f"targets has the shape {list(targets.shape)}: give one id for each row, [N]")
    require_ids("targets", targets, size, "student_logits")


def require_different(name: str, ids: torch.Tensor) -> None:
    """ValueError for no `ids` [K], or where one of them stands twice."""
    if not len(ids):
        raise ValueError(f"{name} has no ids: give at least one")
    ordered = ids.sort().values
    again = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(again):
        raise ValueError(f"{name} has the id {int(again[0])} more than once: give each id once")


def require_ids(name: str, ids: torch.Tensor, size: int, of: str) -> None:
    """ValueError unless `ids` are integers from 0 to `size` - 1; `of` names the tensor with `size` columns."""
    if ids.is_floating_point() or ids.dtype == torch.bool:
        raise ValueError(f"{name} has the type {ids.dtype}: give integers")
    if not ids.numel():
        return
    lowest, highest = int(ids.min()), int(ids.max())
    if lowest < 0 or highest >= size:
        wrong = lowest if lowest < 0 else highest
        raise ValueError(f"{name} has the id {wrong}: {of} has columns for the ids 0 to {size - 1}")


def require_together(**tensors: torch.Tensor) -> None:
    """ValueError unless all tensors lie on one device and have the same number of rows."""
    require_same_device(**tensors)
    rows = {name: len(tensor) for name, tensor in tensors.items()}
    if len(set(rows.values())) > 1:
        raise ValueError(f"the numbers of rows differ, {_listed(rows)}: give one row of each for every position")


def require_same_device(**tensors: torch.Tensor) -> None:
    """ValueError unless all tensors lie on one device."""
    devices = {name: tensor.device for name, tensor in tensors.items()}
    if len(set(devices.values())) > 1:
        raise ValueError(f"the devices differ, {_listed(devices)}: move all to one")


def require_columns(name: str, logits: torch.Tensor, size: int, taker: str) -> None:
    """ValueError unless `logits` has at least `size` columns; `taker` says who takes so many ("the student takes")."""
    if logits.shape[1] < size:
        raise ValueError(f"{name} has {logits.shape[1]} columns, {taker} {size}: give the logits of all ids")


def require_chunks(student_logits: torch.Tensor, teacher_logits: torch.Tensor, chunks: Chunks) -> None:
    """ValueError unless both are logits on the device of `chunks`, with all the rows that `chunks` names."""
    require_logits("teacher_logits", teacher_logits)
    require_chunk_rows("teacher_logits", teacher_logits, chunks.teacher)
    require_student_chunks(student_logits, chunks)
    require_same_device(student_logits=student_logits, teacher_logits=teacher_logits)


def require_student_chunks(student_logits: torch.Tensor, chunks: Chunks) -> None:
    """The same for a loss that takes no teacher logits."""
    require_logits("student_logits", student_logits)
    require_chunk_rows("student_logits", student_logits, chunks.student)
    require_same_device(student_logits=student_logits, chunks=chunks.counted)


def require_chunk_rows(name: str, values: torch.Tensor, rows: ChunkRows) -> None:
    """ValueError unless `values` has all the rows that chunks of its side name."""
    if rows.row.numel() and int(rows.row.max()) >= len(values):
        raise ValueError(
            f"{name} has {len(values)} rows, its chunks name row {int(rows.row.max())}: "
            "give all positions that the chunks were made of"
        )


def require_common(common: CommonTokens, student_logits: torch.Tensor, teacher_logits: torch.Tensor) -> None:
    """ValueError unless the student has just the columns that `common` has ids, and the teacher at least as many."""
    require_student_size(student_logits, common.student_size, "the common tokens")
    require_columns("teacher_logits", teacher_logits, common.teacher_size, "the common tokens take")
    require_same_device(student_logits=student_logits, common=common.student_ids)


def require_student_size(student_logits: torch.Tensor, size: int, knower: str) -> None:
    """ValueError unless `student_logits` has `size` columns; more would take part in its softmax."""
    if student_logits.shape[1] != size:
        raise ValueError(
            f"student_logits has {student_logits.shape[1]} columns, {knower} know {size} ids: "
            f"cut a padded head to student_logits[:, :{size}], or give those of this student"
        )


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in values.items())
