"""The tokens of a vocabulary in an order where everything that extends a token stands right behind it.

Records and prefix_kl ask, for thousands of positions: given a few tokens, which of them is the longest byte-prefix of
each token of the vocabulary? In this order all extensions of a token are one slice, so the answer is to paint a few
slices, inner ones over outer ones: sequential writes instead of a walk up the prefixes of every token.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numba import njit

from xtoken_core.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class PrefixOrder:
    """Places 0 to V - 1, one for each id; all arrays int32 [V].

    order: the id at each place.
    start, end: per id, the slice of places held by the tokens that its bytes are a prefix of, itself and the ids of
        equal bytes included. An id without bytes (special, unused) has a slice of its own, of length one.
    """

    order: np.ndarray
    start: np.ndarray
    end: np.ndarray

    @classmethod
    def of(cls, vocabulary: Vocabulary) -> Self:
        """The order of `vocabulary`: a walk through its tree of prefixes, linear in V."""
        sizes = _subtree_sizes(vocabulary.prefix_parent, vocabulary.by_length)
        places = _places(vocabulary.prefix_parent, vocabulary.by_length, sizes)
        order = np.empty_like(places)
        order[places] = np.arange(len(places), dtype=np.int32)
        start = places[vocabulary.canonical]
        return cls(order, start, start + sizes[vocabulary.canonical])


@njit(nogil=True, cache=True)
def paint(starts: np.ndarray, ends: np.ndarray, colours: np.ndarray, background: int, canvas: np.ndarray) -> None:
    """Gives each place of `canvas` the colour of the innermost slice `starts[i]:ends[i]` around it, else `background`.

    The slices are nested or disjoint, as those of a PrefixOrder are; of equal slices the last one wins.
    """
    canvas[:] = background
    for i in np.argsort(starts, kind="mergesort"):
        canvas[starts[i] : ends[i]] = colours[i]


@njit(nogil=True, cache=True)
def _subtree_sizes(parent: np.ndarray, by_length: np.ndarray) -> np.ndarray:
    sizes = np.ones(len(parent), dtype=np.int32)
    for token in by_length[::-1]:
        if parent[token] >= 0:
            sizes[parent[token]] += sizes[token]
    return sizes


@njit(nogil=True, cache=True)
def _places(parent: np.ndarray, by_length: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Each token takes the first free place of its parent's slice and claims as many as its own subtree needs."""
    places = np.empty(len(parent), dtype=np.int32)
    free_inside = np.empty(len(parent), dtype=np.int32)
    free_outside = 0
    for token in by_length:
        above = parent[token]
        if above < 0:
            places[token] = free_outside
            free_outside += sizes[token]
        else:
            places[token] = free_inside[above]
            free_inside[above] += sizes[token]
        free_inside[token] = places[token] + 1
    return places
