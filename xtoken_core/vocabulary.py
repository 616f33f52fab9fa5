"""What each token id of a tokenizer spells, in bytes.

Two tokenizers meet in bytes, not in strings: a token can be half a character, and the same text is spelled with `Ġ` by
one family and with `▁` by another. A `Vocabulary` is all that alignment, projection and losses need to know about a
tokenizer; `xtoken_core.tokenizer.spelling` establishes it from a tokenizer's files.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np


class VocabularyError(ValueError):
    """A tokenizer whose tokens cannot be written as bytes; the message says which part stands in the way."""


class TokenKind(IntEnum):
    """What an id stands for."""

    TEXT = 0
    SPECIAL = 1  # a mark such as BOS: it has a role or a name, and no bytes
    UNUSED = 2  # a hole in the id range, or an entry that no text can produce


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The tokens of one tokenizer; ids run from 0 to V - 1, where V is the largest id plus one.

    data: uint8, all tokens' bytes in a row; special and unused ids have none.
    offsets: int64 [V + 1], token i is `data[offsets[i]:offsets[i + 1]]`.
    kind: int8 [V] of `TokenKind`.
    texts: the V token strings as the tokenizer writes them ("Ġthe", "<|im_start|>"), to show to people; "" for holes.
    roles: "bos", "eos", "pad", "unk", "turn_start", "turn_end" -> id, where the tokenizer has such a token.
    dummy_prefix: encoding puts a space in front of the text that the text does not have.
    """

    data: np.ndarray
    offsets: np.ndarray
    kind: np.ndarray
    texts: tuple[str, ...]
    roles: Mapping[str, int]
    dummy_prefix: bool

    @property
    def size(self) -> int:
        """V, the largest id plus one."""
        return len(self.kind)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Bytes of each token, int32 [V]."""
        return np.diff(self.offsets).astype(np.int32)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that `token_id` spells; b"" for a special or unused id."""
        return self.data[self.offsets[token_id] : self.offsets[token_id + 1]].tobytes()

    @cached_property
    def fingerprint(self) -> str:
        """A hash of everything above: equal fingerprints mean interchangeable vocabularies."""
        digest = hashlib.blake2b(digest_size=16)
        parts = [self.data.tobytes(), self.offsets.astype("<i8").tobytes(), self.kind.tobytes()]
        parts += ["\0".join(self.texts).encode("utf-8", "surrogatepass")]
        parts += [repr((sorted(self.roles.items()), self.dummy_prefix)).encode()]
        for part in parts:
            digest.update(len(part).to_bytes(8, "little") + part)
        return digest.hexdigest()

    @cached_property
    def lookup(self) -> dict[bytes, int]:
        """Non-empty byte string -> the lowest id that spells it."""
        lowest: dict[bytes, int] = {}
        for token_id in np.flatnonzero(self.lengths).tolist():
            lowest.setdefault(self.token_bytes(token_id), token_id)
        return lowest

    @cached_property
    def canonical(self) -> np.ndarray:
        """For each id the lowest id with the same bytes, int32 [V]; an id without bytes is its own."""
        canonical = np.arange(self.size, dtype=np.int32)
        for token_id in np.flatnonzero(self.lengths).tolist():
            canonical[token_id] = self.lookup[self.token_bytes(token_id)]
        return canonical

    @cached_property
    def prefix_parent(self) -> np.ndarray:
        """The tree of byte prefixes, int32 [V].

        The parent of a canonical id is the canonical id of its longest proper byte prefix that is a token, -1 where
        there is none. The parent of a duplicate is its canonical id. Ids without bytes have -1.
        """
        parent = np.full(self.size, -1, dtype=np.int32)
        for spelled, token_id in self.lookup.items():
            parent[token_id] = self._longest_proper_prefix(spelled)
        duplicate = self.canonical != np.arange(self.size)
        parent[duplicate] = self.canonical[duplicate]
        return parent

    def _longest_proper_prefix(self, spelled: bytes) -> int:
        for length in range(len(spelled) - 1, 0, -1):
            found = self.lookup.get(spelled[:length])
            if found is not None:
                return found
        return -1

    @cached_property
    def by_length(self) -> np.ndarray:
        """All ids, int32 [V], every id after its `prefix_parent`: by byte length, canonical ids before duplicates."""
        duplicate = self.canonical != np.arange(self.size)
        return np.lexsort((duplicate, self.lengths)).astype(np.int32)
