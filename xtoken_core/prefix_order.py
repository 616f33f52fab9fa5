"""The tokens of a vocabulary in an order where everything that extends a token stands right behind it.

Records and prefix_kl ask, for thousands of positions: given a few tokens, which of them is the longest byte-prefix of
each token of the vocabulary? In this order all extensions of a token are one slice, so the answer is to paint a few
slices, inner ones over outer ones: sequential writes instead of a walk up the prefixes of every token.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from xtoken_core.prefix_compiled import places_in_order, subtree_sizes
from xtoken_core.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class PrefixOrder:
    """Places 0 to V - 1, one for each id; all arrays int32 [V].

    order: the id at each place.
    start, end: per id, the slice of places held by the tokens that its bytes are a prefix of, itself and the ids of
        equal bytes included. An id without bytes (special, unused) has a slice of its own, of length one, or shares one
        with those that count as the same.
    """

    order: np.ndarray
    start: np.ndarray
    end: np.ndarray

    @classmethod
    def of(cls, vocabulary: Vocabulary, canonical: np.ndarray | None = None) -> Self:
        """The order of `vocabulary`: a walk through its tree of prefixes, linear in V.

        canonical: `Vocabulary.canonical` unless given, where it may also name, for ids without bytes, the lowest of
            those that count as the same.
        """
        canonical = vocabulary.canonical if canonical is None else canonical
        ids = np.arange(vocabulary.size, dtype=np.int32)
        parent = np.where(canonical == ids, vocabulary.prefix_parent, canonical)
        sizes = subtree_sizes(parent, vocabulary.by_length)
        places = places_in_order(parent, vocabulary.by_length, sizes)
        order = np.empty_like(places)
        order[places] = ids
        start = places[canonical]
        return cls(order, start, start + sizes[canonical])
