"""Teacher tokens whose vectors lie next to those of student tokens.

The vectors of both sides must be of one space (`xtoken_core.projection.vectors` makes them): the input embeddings of
two models are not. Similarities are made block by block and never kept, so memory does not grow with the square of the
vocabularies: a block of 1,024 x 16,384 takes 64 MB.
"""

from dataclasses import dataclass

import numpy as np
import torch

from xtoken_core.projection.entries import Entries
from xtoken_core.projection.matrix import Rule
from xtoken_core.projection.settings import NearestSettings

_STUDENT_BLOCK = 1 << 10
_TEACHER_BLOCK = 1 << 14
_GROUP = 64  # columns


@dataclass(frozen=True, eq=False)
class VectorPair:
    """A vector for every id: float16 or float32 [Vs, d] and [Vt, d]; ids whose vector is zero have no neighbours."""

    student: np.ndarray
    teacher: np.ndarray

    def __post_init__(self) -> None:
        shapes = self.student.shape, self.teacher.shape
        if not len(shapes[0]) == len(shapes[1]) == 2 or shapes[0][1] != shapes[1][1]:
            raise ValueError(
                f"the vectors have shapes {list(shapes[0])} and {list(shapes[1])}: give [Vs, d] and [Vt, d], of "
                "one space."
            )


def nearest_entries(vectors: VectorPair, student_ids: np.ndarray, settings: NearestSettings) -> Entries:
    """Each of these student tokens to the teacher tokens of the largest cosine: softmax(cosine / temperature)."""
    candidates = _with_a_vector(vectors.teacher, np.arange(len(vectors.teacher)))
    rows = _with_a_vector(vectors.student, student_ids)
    k = min(settings.k, len(candidates))
    if k == 0:
        return Entries.joined([])
    blocks = [rows[first : first + _STUDENT_BLOCK] for first in range(0, len(rows), _STUDENT_BLOCK)]
    return Entries.joined([_block_entries(vectors, block, candidates, k, settings.temperature) for block in blocks])


def _with_a_vector(vectors: np.ndarray, ids: np.ndarray) -> np.ndarray:
    blocks = [ids[first : first + _TEACHER_BLOCK] for first in range(0, len(ids), _TEACHER_BLOCK)]
    return np.concatenate([ids[:0], *(block[vectors[block].any(axis=1)] for block in blocks)])


def _block_entries(
    vectors: VectorPair, rows: np.ndarray, candidates: np.ndarray, k: int, temperature: float
) -> Entries:
    student = _unit(vectors.student, rows)
    best = torch.full((len(rows), k), -torch.inf)
    place = torch.zeros((len(rows), k), dtype=torch.int64)
    for first in range(0, len(candidates), _TEACHER_BLOCK):
        cosine = student @ _unit(vectors.teacher, candidates[first : first + _TEACHER_BLOCK]).T
        found = _largest(cosine, min(k, cosine.shape[1]))
        values, places = torch.cat([best, found[0]], 1), torch.cat([place, found[1] + first], 1)
        best, order = values.topk(k)
        place = places.gather(1, order)
    weight = (best.double() / temperature).softmax(dim=1).numpy()
    return Entries.of(np.repeat(rows, k), candidates[place.flatten().numpy()], weight.flatten(), Rule.NEAREST)


def _largest(cosine: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k largest values of each row and where they are, both [rows, k].

    They lie in the k groups of columns with the largest maxima: looking into these alone is many times faster than
    `topk` over all columns.
    """
    groups = torch.nn.functional.pad(cosine, (0, -cosine.shape[1] % _GROUP), value=-torch.inf).unflatten(
        1, (-1, _GROUP)
    )
    which = groups.amax(dim=2).topk(min(k, groups.shape[1])).indices
    inside = groups.gather(1, which[:, :, None].expand(-1, -1, _GROUP)).flatten(1)
    found = inside.topk(k)
    return found.values, which.gather(1, found.indices // _GROUP) * _GROUP + found.indices % _GROUP


def _unit(vectors: np.ndarray, ids: np.ndarray) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.from_numpy(vectors[ids].astype(np.float32)), dim=1)
