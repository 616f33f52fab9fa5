"""The toy language as a tokenizer sees it: its states and the true distribution of the next token in each."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Self

import numpy as np
from tokenizers import Regex, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from benchmarks.toy_language import DIGITS, LETTERS, SPACE, Language
from xtoken_core.tokenizer import Tokenizer
from xtoken_core.vocabulary import Vocabulary

_SPACE = "Ġ"  # as byte-level BPE writes it


def train_tokenizer(folder: Path, languages: Sequence[Language], merges: int, digits: int) -> Tokenizer:
    """A byte-level BPE in `folder`: `merges` of letters, learned from 10,000 items of each language.

    digits: how many of a run of digits are one token, from the left, as in Llama-3 (3) or Qwen (1).
    """
    words = [text for seed, language in enumerate(languages) for text in _words(language, seed)]
    learner = Backend(models.BPE())
    learner.train_from_iterator(words, trainers.BpeTrainer(vocab_size=len(LETTERS) + merges, show_progress=False))
    learned = json.loads(learner.to_str())["model"]
    rules = [tuple(pair) for pair in learned["merges"]]
    rules += [(run[:-1], run[-1]) for length in range(2, digits + 1) for run in _runs(length)]
    tokens = [_SPACE, *DIGITS, *sorted(learned["vocab"], key=learned["vocab"].get), *("".join(r) for r in rules)]
    ids = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    backend = Backend(models.BPE(ids, rules, ignore_merges=True))
    runs = pre_tokenizers.Split(Regex(f"{SPACE}|[{DIGITS}]{{1,{digits}}}|[{LETTERS}]+"), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([runs, pre_tokenizers.ByteLevel(False, use_regex=False)])
    folder.mkdir(parents=True)
    backend.save(str(folder / "tokenizer.json"))
    return Tokenizer.load(folder)


def _words(language: Language, seed: int) -> list[str]:
    items = (language.items[item] for _, item in language.sample(10_000, seed))
    return [item for item in items if item[0] in LETTERS]


def _runs(length: int) -> list[str]:
    return ["".join(run) for run in product(DIGITS, repeat=length)]


@dataclass(frozen=True, eq=False)
class TokenStates:
    """What a model with this tokenizer can know: the context and the tokens of the item so far. S states, V tokens.

    paths: for each item its tokens, the space's included.
    state: for each context and item the state before each token of the path.
    known: what is known in each state: the context and the tokens of the item so far.
    truth: float64 [S, V], the next token's probability. prob: float64 [S], how often a state occurs per item.
    """

    tokenizer: Tokenizer
    paths: tuple[tuple[int, ...], ...]
    state: tuple[tuple[tuple[int, ...], ...], ...]
    known: tuple[tuple[int, tuple[int, ...]], ...]
    truth: np.ndarray
    prob: np.ndarray

    @classmethod
    def of(cls, language: Language, tokenizer: Tokenizer) -> Self:
        """By listing all items."""
        ids = tokenizer.encode_batch([item + SPACE for item in language.items])
        paths = tuple(tuple(row.tolist()) for row in ids)
        numbers: dict[tuple[int, tuple[int, ...]], int] = {}
        state = tuple(
            tuple(tuple(numbers.setdefault((c, path[:i]), len(numbers)) for i in range(len(path))) for path in paths)
            for c in range(len(language.prob))
        )
        mass = np.zeros((len(numbers), tokenizer.vocabulary.size))
        for c, states in enumerate(state):
            for item, path in enumerate(paths):
                prob = language.context_prob[c] * language.prob[c, item]
                np.add.at(mass, (states[item], path), prob)
        prob = mass.sum(axis=1)
        return cls(tokenizer, paths, state, tuple(numbers), mass / prob[:, None], prob)

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokenizer's."""
        return self.tokenizer.vocabulary

    @cached_property
    def ends(self) -> tuple[tuple[int, ...], ...]:
        """For each item the byte offsets at which its tokens end."""
        return tuple(tuple(np.cumsum(self.vocabulary.lengths[list(path)]).tolist()) for path in self.paths)
