"""Small made-up parts for tests that need full control over their input."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st

from xtoken_core.topk import Records, make_records
from xtoken_core.vocabulary import TokenKind, Vocabulary

# The same examples at every run, and no deadline: the first one may wait for numba to compile.
reproducible = settings(deadline=None, derandomize=True)


def fake_vocabulary(
    tokens: Sequence[bytes | str | None], roles: Mapping[str, int] | None = None, dummy_prefix: bool = False
) -> Vocabulary:
    """A vocabulary whose id i is `tokens[i]`: bytes are text, a string is a special token, None is a hole."""
    spelled = [token if isinstance(token, bytes) else b"" for token in tokens]
    return Vocabulary(
        data=np.frombuffer(b"".join(spelled), dtype=np.uint8),
        offsets=np.concatenate([[0], np.cumsum([len(token) for token in spelled], dtype=np.int64)]),
        kind=np.array([_kind(token) for token in tokens], dtype=np.int8),
        texts=tuple(_text(token) for token in tokens),
        roles=dict(roles or {}),
        dummy_prefix=dummy_prefix,
    )


def _kind(token: bytes | str | None) -> TokenKind:
    if token is None:
        return TokenKind.UNUSED
    return TokenKind.TEXT if isinstance(token, bytes) else TokenKind.SPECIAL


def _text(token: bytes | str | None) -> str:
    if token is None:
        return ""
    return token.decode("latin-1") if isinstance(token, bytes) else token


@st.composite
def vocabularies(draw: st.DrawFn) -> Vocabulary:
    """Small vocabularies over two letters: prefixes, duplicates and holes abound, and some have an end-of-text token.

    The last id is a special token without a role, which no other vocabulary has a counterpart of.
    """
    text = st.text(alphabet="ab", min_size=1, max_size=4).map(str.encode)
    tokens: list[bytes | str | None] = draw(st.lists(text | st.none(), min_size=1, max_size=12))
    roles = {}
    if draw(st.booleans()):
        roles["eos"] = len(tokens)
        tokens.append("</s>")
    return fake_vocabulary([*tokens, "<nowhere else>"], roles)


def random_logits(rows: int, columns: int, seed: int, scale: float = 3.0) -> torch.Tensor:
    """Normal float32 logits [rows, columns]."""
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * scale


def records_of(vocabulary: Vocabulary, logits: torch.Tensor, k: int) -> Records:
    """Records of `logits` where no next token is known."""
    return make_records(logits, torch.full((len(logits),), -1), vocabulary, k)
