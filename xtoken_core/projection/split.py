"""The tokens of one vocabulary, split into tokens of another tokenizer."""

import numpy as np

from xtoken_core.ragged import Ragged
from xtoken_core.tokenizer import Tokenizer
from xtoken_core.tokenizer.spelling import as_text
from xtoken_core.vocabulary import Vocabulary


def split_tokens(vocabulary: Vocabulary, token_ids: np.ndarray, other: Tokenizer) -> Ragged:
    """For each of `token_ids` (with bytes) the ids, int32, into which `other` splits its bytes.

    Bytes that are whole characters are tokenized; others, such as half of a character, are split by longest match.
    """
    spelled = [vocabulary.token_bytes(token_id) for token_id in token_ids.tolist()]
    texts = [as_text(token) for token in spelled]
    tokenized = iter(other.encode_plain([text for text in texts if text is not None]))
    longest = int(other.vocabulary.lengths.max())
    return Ragged.from_lists(
        [
            _longest_match(token, other.id_of, longest) if text is None else next(tokenized)
            for token, text in zip(spelled, texts, strict=True)
        ],
        np.int32,
    )


def _longest_match(token: bytes, lookup: dict[bytes, int], longest: int) -> list[int]:
    """Takes the longest known prefix, again and again; a byte that begins no known token is left out."""
    pieces, at = [], 0
    while at < len(token):
        ends = range(min(len(token), at + longest), at, -1)
        end = next((end for end in ends if token[at:end] in lookup), None)
        if end is not None:
            pieces.append(lookup[token[at:end]])
        at = end or at + 1
    return pieces
