"""Rows of different lengths in one flat array.

Token ids, chunk ends and per-token flags of many windows travel through the whole project in this form: numba loops
over it without touching Python objects, and Arrow list columns map to it without a copy.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import DTypeLike


@dataclass(frozen=True, eq=False)
class Ragged:
    """`values` [total] holds all rows one after another; row i is `values[offsets[i]:offsets[i + 1]]`.

    `offsets` is int64 [rows + 1]. It need not start at zero: a slice of a longer Ragged shares its values.
    """

    values: np.ndarray
    offsets: np.ndarray

    @classmethod
    def from_lists(cls, rows: Iterable[Sequence | np.ndarray], dtype: DTypeLike) -> Self:
        """Copies `rows` into one flat array of `dtype`."""
        arrays = [np.asarray(row, dtype=dtype) for row in rows]
        values = np.concatenate(arrays) if arrays else np.empty(0, dtype=dtype)
        return cls(values, offsets_of([len(array) for array in arrays]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self.row(i) for i in range(len(self)))

    def row(self, i: int) -> np.ndarray:
        """A view of row `i`, which counts from zero; IndexError where there is no such row."""
        if not 0 <= i < len(self):
            raise IndexError(f"row {i} of a Ragged with {len(self)} rows")
        return self.values[self.offsets[i] : self.offsets[i + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """Length of each row, int64 [rows]."""
        return np.diff(self.offsets)


def offsets_of(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """Offsets (int64 [rows + 1], from zero) of rows with these lengths."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
