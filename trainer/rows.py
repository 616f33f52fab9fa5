"""What the student reads in one forward pass: rows of padded ids, with one window in each or several.

Everything else in a micro-batch counts its tokens window after window, without padding; this is the one place that
knows where they stand in the rows.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from xtoken_core.ragged import Ragged


@dataclass(frozen=True, eq=False)
class Rows:
    """Padded ids and the places in them whose logits are wanted.

    No attention mask goes with them. A causal model's token never sees what stands behind it, so padding on the right
    changes nothing before it. Where the position ids of a row begin anew, transformers keeps attention apart.

    ids: int64 [R, S], padded with 0.
    row, position: int64 [N], the places.
    position_ids: int64 [R, S], restarting at each window; None where every row is one window.
    """

    ids: torch.Tensor
    row: torch.Tensor
    position: torch.Tensor
    position_ids: torch.Tensor | None

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        ids, row, position = (t.to(device, non_blocking=True) for t in (self.ids, self.row, self.position))
        position_ids = None if self.position_ids is None else self.position_ids.to(device, non_blocking=True)
        return type(self)(ids, row, position, position_ids)


def lay_out(ids: Ragged, row: np.ndarray, wanted: torch.Tensor) -> Rows:
    """The windows `ids` in rows: window w in row `row[w]`, after those before it.

    row: int64 [windows], ascending from 0 without gaps. wanted: int64 [N], the tokens whose logits are wanted, counted
    window after window.
    """
    assert ids.offsets[0] == 0
    first_of_row = np.searchsorted(row, row)
    token_row = np.repeat(row, ids.lengths)
    in_window = np.arange(len(token_row)) - np.repeat(ids.offsets[:-1], ids.lengths)
    in_row = np.arange(len(token_row)) - np.repeat(ids.offsets[first_of_row], ids.lengths)
    shape = (int(row[-1]) + 1, int(in_row.max()) + 1)
    padded, position_ids = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    padded[token_row, in_row] = ids.values
    position_ids[token_row, in_row] = in_window
    return Rows(
        ids=torch.from_numpy(padded),
        row=torch.from_numpy(token_row)[wanted],
        position=torch.from_numpy(in_row)[wanted],
        position_ids=torch.from_numpy(position_ids) if shape[0] < len(ids) else None,
    )
