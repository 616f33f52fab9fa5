"""How many bytes of a window's text each of its tokens spells: what bits per byte are counted in."""

import numpy as np

from xtoken_core.ragged import Ragged
from xtoken_core.vocabulary import TokenKind, Vocabulary

_SPACE = b" "


def token_bytes(ids: Ragged, vocabulary: Vocabulary) -> np.ndarray:
    """How many bytes of the text each token spells, int64 [total]."""
    spelled = vocabulary.lengths[ids.values].astype(np.int64)
    if vocabulary.dummy_prefix:
        for row, start in zip(ids, ids.offsets[:-1], strict=True):
            first = _first_text(row, vocabulary)
            if first is not None and vocabulary.token_bytes(int(row[first])).startswith(_SPACE):
                spelled[start + first] -= 1
    return spelled


def _first_text(row: np.ndarray, vocabulary: Vocabulary) -> int | None:
    text = np.flatnonzero(vocabulary.kind[row] == TokenKind.TEXT)
    return int(text[0]) if len(text) else None
