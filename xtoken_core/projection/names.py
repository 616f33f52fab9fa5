"""Special tokens that are called alike: "<|im_end|>" and "<|end|>".

Two names are compared by their letters (difflib's ratio) and by their words (Jaccard). This is a guess, and the
published construction's; roles are known and come first.

Placeholders, names that many tokens share but for a number ("<|reserved_special_token_17|>"), say nothing and are left
out. Some tokenizers have a thousand of them.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Self

import numpy as np

from xtoken_core.projection.entries import Entries
from xtoken_core.projection.matrix import Rule
from xtoken_core.projection.rules import special_ids
from xtoken_core.projection.settings import NameSettings
from xtoken_core.vocabulary import Vocabulary

_SEPARATORS = re.compile(r"[<>|_\s]+")
_BINS = 128
_ROUNDING = 1e-9
_NUMBER = re.compile(r"\d+")
_FEWEST_PLACEHOLDERS = 4  # three can be marks with a meaning, such as <step_1> to <step_3>
_SHORTEST_WORD = 3  # letters: "im" and "of" say nothing


def name_entries(student: Vocabulary, teacher: Vocabulary, free: np.ndarray, settings: NameSettings) -> Entries:
    """Special tokens of the student to the teacher's with similar names, weighted by the similarity.

    free: bool [Vt], the teacher ids that may be taken; those that play a role of the student's are known already.
    """
    ids = _named_ids(student)
    names = _Names.of([student.texts[i] for i in ids])
    found = [
        (ids[place], j, similarity)
        for j in _named_ids(teacher)
        if free[j]
        for place, similarity in names.similar(teacher.texts[j], settings)
    ]
    table = np.array(found, dtype=np.float64).reshape(-1, 3)
    return Entries.of(table[:, 0], table[:, 1], table[:, 2], Rule.NAME)


def _named_ids(vocabulary: Vocabulary) -> list[int]:
    """The special tokens that are no placeholders."""
    stems = {i: _NUMBER.sub("", vocabulary.texts[i]) for i in special_ids(vocabulary)}
    count = Counter(stems.values())
    return [i for i, stem in stems.items() if count[stem] < _FEWEST_PLACEHOLDERS]


@dataclass(frozen=True, eq=False)
class _Names:
    """The special tokens of one side, ready to be compared with many names.

    letters: int64 [n, 128], how often each name has each letter (by the last bits of its code). words: of each name.
    """

    names: list[str]
    letters: np.ndarray
    words: list[set[str]]

    @classmethod
    def of(cls, names: list[str]) -> Self:
        letters = np.array([_letters(name) for name in names]).reshape(-1, _BINS)
        return cls(names, letters, [_words(name) for name in names])

    def similar(self, name: str, settings: NameSettings) -> Iterator[tuple[int, float]]:
        """Places of the names that are similar enough to `name`, and how similar.

        difflib is slow: its ratio is worked out only where the letters that both names have, in whatever order, leave
        room for one that is large enough.
        """
        words = _words(name)
        by_words = (1 - settings.letters) * np.array([_jaccard(others, words) for others in self.words])
        common = np.minimum(self.letters, _letters(name)).sum(axis=1)
        bound = 2 * common / np.maximum(self.letters.sum(axis=1) + len(name), 1)
        matcher = SequenceMatcher(None, "", name)  # what it knows about its second text, it keeps
        for place in np.flatnonzero(settings.letters * bound + by_words >= settings.threshold - _ROUNDING).tolist():
            matcher.set_seq1(self.names[place])
            similarity = settings.letters * matcher.ratio() + by_words[place]
            if similarity >= settings.threshold:
                yield place, similarity


def _letters(name: str) -> np.ndarray:
    codes = np.array([ord(letter) % _BINS for letter in name], dtype=np.int64)
    return np.bincount(codes, minlength=_BINS)


def _words(name: str) -> set[str]:
    return {word for word in _SEPARATORS.split(name.lower()) if len(word) >= _SHORTEST_WORD}


def _jaccard(one: set[str], other: set[str]) -> float:
    return len(one & other) / len(one | other) if one | other else 0.0
