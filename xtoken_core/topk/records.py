"""The record of a next-token distribution: its k most probable tokens and where the rest of the mass lies."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np


@dataclass(frozen=True, eq=False)
class Records:
    """Records of N positions with k stored tokens each. All masses are natural logarithms, at temperature 1.

    The stored tokens' probabilities, their hidden masses and the rest sum to one at every position.

    topk_ids: int32 [N, k], by falling probability.
    topk_logprob: float [N, k].
    topk_hidden_logmass: float [N, k], the mass of the tokens that are not stored and whose longest stored byte-prefix
        is this one (equal bytes count as a prefix); -inf where there are none.
    rest_logmass: float32 [N], the mass of all other tokens; -inf where there are none.
    next_logprob: float32 [N], of the token that follows in the text; nan where none does.
    logsumexp: float32 [N], of the raw logits.
    entropy: float32 [N], of the full distribution, in nats.
    """

    topk_ids: np.ndarray
    topk_logprob: np.ndarray
    topk_hidden_logmass: np.ndarray
    rest_logmass: np.ndarray
    next_logprob: np.ndarray
    logsumexp: np.ndarray
    entropy: np.ndarray

    def __len__(self) -> int:
        return len(self.topk_ids)

    @property
    def k(self) -> int:
        """Stored tokens of a position."""
        return self.topk_ids.shape[1]

    def take(self, positions: np.ndarray) -> Self:
        """The records at `positions`, which index the N rows."""
        return type(self)(*(getattr(self, field.name)[positions] for field in fields(self)))

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """The records of all `parts`, of the same k, one after another; at least one part."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))
