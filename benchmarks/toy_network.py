"""A small network that predicts the next token in every state of the toy language."""

from typing import Self

import torch
from torch import nn

from benchmarks.toy_tokens import TokenStates

_WIDTH, _SEEN = 24, 3  # of an embedding; tokens that it looks back


class Network(nn.Module):
    """The last three tokens and the context, embedded, through one hidden layer."""

    def __init__(self, seen: torch.Tensor, symbols: int, vocabulary: int) -> None:
        """seen: int64 [S, 1 + 3], symbols in each state."""
        super().__init__()
        self.seen = seen
        self.embed = nn.Embedding(symbols, _WIDTH)
        self.layers = nn.Sequential(nn.Linear(_WIDTH * seen.shape[1], 128), nn.GELU(), nn.Linear(128, vocabulary))

    @classmethod
    def of(cls, states: TokenStates) -> Self:
        """Symbols are the tokens, "nothing yet", then the contexts."""
        size = states.vocabulary.size
        rows = [[*((size,) * _SEEN + path)[-_SEEN:], size + 1 + context] for context, path in states.known]
        return cls(torch.tensor(rows), max(row[-1] for row in rows) + 1, size)

    def forward(self) -> torch.Tensor:
        """Logits [S, V]."""
        logits: torch.Tensor = self.layers(self.embed(self.seen).flatten(1))
        return logits
