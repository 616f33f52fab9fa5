"""What a record keeps of a next-token distribution, as the losses take it."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from xtoken_core.topk.records import Records


@dataclass(frozen=True, eq=False)
class TopK:
    """The k likeliest tokens of N positions. All masses are natural logarithms, at temperature 1.

    ids: int [N, k], different ones in each row, by falling probability.
    logprob: float [N, k].
    rest_logmass: float [N], the probability of all tokens that are not stored; -inf where there are none.
    """

    ids: torch.Tensor
    logprob: torch.Tensor
    rest_logmass: torch.Tensor

    @classmethod
    def of(cls, records: Records) -> Self:
        """The same of stored records; what hides behind stored tokens is a part of the rest here."""
        unstored = np.concatenate([records.topk_hidden_logmass, records.rest_logmass[:, None]], axis=1)
        return cls(
            ids=torch.tensor(records.topk_ids, dtype=torch.int64),
            logprob=torch.tensor(records.topk_logprob, dtype=torch.float32),
            rest_logmass=torch.tensor(unstored, dtype=torch.float32).logsumexp(dim=1),
        )

    def rows(self, first: int, last: int) -> Self:
        """The positions from `first` to `last`, exclusive: views, nothing is copied."""
        return type(self)(self.ids[first:last], self.logprob[first:last], self.rest_logmass[first:last])

    @property
    def logmass(self) -> torch.Tensor:
        """[N, k + 1]: the stored tokens, then the rest."""
        return torch.cat([self.logprob, self.rest_logmass[:, None].to(self.logprob.dtype)], dim=1)

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        return type(self)(*(part.to(device) for part in vars(self).values()))
