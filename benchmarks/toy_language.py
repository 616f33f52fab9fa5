"""A language whose next-token probabilities are known exactly, for any tokenizer.

A text is a sequence of items, each a word of up to five letters or a number of up to four digits, and a space. Letters
and digits follow a Markov source of second order; the next item also depends on how the last one ended. There are few
items, so all of them can be listed, and a probability under a tokenizer is a sum over the items that it tokenizes so:
nothing is sampled or approximated.

Both tokenizers give the space a token of its own, so behind it no token tells anything about what follows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

LETTERS, DIGITS = "abcd", "0123"
LONGEST_WORD, LONGEST_NUMBER = 5, 4
SPACE = " "
_NUMBER_SHARE = (0.2, 0.35, 0.5)  # of the items, by context
_RARE = 1e-4  # strings that are less probable than this in every context are not in the language


@dataclass(frozen=True, eq=False)
class Language:
    """I items in C contexts (the last item was a word in a or b, another word, a number).

    items: the texts, without the space. prob: float64 [C, I], of an item in each context. next_context: int64 [I], the
    context behind an item. context_prob: float64 [C], how often each context occurs in the long run.
    """

    items: tuple[str, ...]
    prob: np.ndarray
    next_context: np.ndarray
    context_prob: np.ndarray

    def sample(self, items: int, seed: int) -> list[tuple[int, int]]:
        """(context, item) of consecutive items, beginning in a context of the long run."""
        rng = np.random.default_rng(seed)
        context = int(rng.choice(len(self.context_prob), p=self.context_prob))
        drawn = []
        for _ in range(items):
            item = int(rng.choice(len(self.items), p=self.prob[context]))
            drawn.append((context, item))
            context = int(self.next_context[item])
        return drawn


def make_language(seed: int = 0) -> Language:
    """The language of this seed: transition probabilities are drawn from Dirichlet distributions."""
    rng = np.random.default_rng(seed)
    words, numbers = _strings(LETTERS, LONGEST_WORD), _strings(DIGITS, LONGEST_NUMBER)
    word_prob = _markov(LETTERS, LONGEST_WORD, words, rng)
    number_prob = _markov(DIGITS, LONGEST_NUMBER, numbers, rng)
    rows = zip(_NUMBER_SHARE, word_prob, number_prob, strict=True)
    prob = np.stack([np.concatenate([(1 - share) * word, share * number]) for share, word, number in rows])
    kept = np.flatnonzero(prob.max(axis=0) > _RARE)
    prob = prob[:, kept] / prob[:, kept].sum(axis=1, keepdims=True)
    items = tuple((words + numbers)[i] for i in kept)
    next_context = np.array([_context_behind(item) for item in items])
    moves = np.stack([np.bincount(next_context, row, minlength=len(prob)) for row in prob])
    return Language(items, prob, next_context, _long_run(moves))


def _strings(alphabet: str, longest: int) -> list[str]:
    return ["".join(letters) for length in range(1, longest + 1) for letters in product(alphabet, repeat=length)]


def _markov(alphabet: str, longest: int, strings: list[str], rng: np.random.Generator) -> Iterator[np.ndarray]:
    """For each context the probability of each string: letter given the two before it, then the end, forced at last."""
    size = len(alphabet)
    first = rng.dirichlet(np.full(size, 1.0), size=len(_NUMBER_SHARE))
    follow = {pair: rng.dirichlet(np.full(size, 0.4)) for pair in product([None, *alphabet], alphabet)}
    stop = {letter: rng.uniform(0.15, 0.5) for letter in alphabet}
    for row in first:
        yield np.array([_string_prob(string, alphabet, longest, row, follow, stop) for string in strings])


def _string_prob(string: str, alphabet: str, longest: int, first: np.ndarray, follow: dict, stop: dict) -> float:
    prob = first[alphabet.index(string[0])]
    before = None
    for letter, following in pairwise(string):
        prob *= (1 - stop[letter]) * follow[before, letter][alphabet.index(following)]
        before = letter
    return float(prob * (1.0 if len(string) == longest else stop[string[-1]]))


def _context_behind(item: str) -> int:
    return 2 if item[-1] in DIGITS else int(item[-1] not in "ab")


def _long_run(moves: np.ndarray) -> np.ndarray:
    """The distribution that `moves` [C, C] leaves as it is."""
    system = np.vstack([moves.T - np.eye(len(moves)), np.ones(len(moves))])
    target = np.append(np.zeros(len(moves)), 1.0)
    return np.linalg.lstsq(system, target, rcond=None)[0]
