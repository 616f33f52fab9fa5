"""The tokens of one vocabulary, split into tokens of another tokenizer."""

import numpy as np

from xtoken_core.ragged import Ragged, offsets_of
from xtoken_core.tokenizer import Tokenizer
from xtoken_core.tokenizer.spelling import as_text
from xtoken_core.vocabulary import Vocabulary


def split_tokens(vocabulary: Vocabulary, token_ids: np.ndarray, other: Tokenizer) -> Ragged:
    """For each of `token_ids` (with bytes) the ids, int32, into which `other` splits its bytes.

    Bytes that are whole characters are tokenized; others, such as half of a character, are split by longest match.
    """
    spelled = _spelled(vocabulary, token_ids)
    texts = [as_text(token) for token in spelled]
    tokenized = other.encode_plain([text for text in texts if text is not None])
    longest = int(other.vocabulary.lengths.max())
    parts = [token for token, text in zip(spelled, texts, strict=True) if text is None]
    matched = Ragged.from_lists([_longest_match(token, other.id_of, longest) for token in parts], np.int32)
    return _interleaved(np.array([text is not None for text in texts], dtype=bool), tokenized, matched)


def _spelled(vocabulary: Vocabulary, token_ids: np.ndarray) -> list[bytes]:
    """The bytes of each token; `Vocabulary.token_bytes` takes several times as long."""
    data = vocabulary.data.tobytes()
    starts, ends = vocabulary.offsets[token_ids].tolist(), vocabulary.offsets[token_ids + 1].tolist()
    return [data[start:end] for start, end in zip(starts, ends, strict=True)]


def _interleaved(is_first: np.ndarray, first: Ragged, second: Ragged) -> Ragged:
    """Row by row from `first` or, where not `is_first`, from `second`."""
    lengths = np.empty(len(is_first), dtype=np.int64)
    lengths[is_first], lengths[~is_first] = first.lengths, second.lengths
    values = np.empty(lengths.sum(), dtype=np.int32)
    from_first = np.repeat(is_first, lengths)
    values[from_first], values[~from_first] = first.values, second.values
    return Ragged(values, offsets_of(lengths))


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
