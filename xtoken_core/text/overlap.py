"""Which texts hold a passage of given others: their runs of words are looked up, by hash."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numba import njit

from xtoken_core.text.ngrams import Run, ngrams, weights
from xtoken_core.text.words import Words

WORD_WEIGHT = 4  # as many characters of a script without spaces stand for a word: 13 words are 52 of them
_MARKS_PER_HASH = 8  # of what is not there, at most one look-up in eight goes on to the search


def passage_run(words: int) -> Run:
    """A run of so many words."""
    return Run(words * WORD_WEIGHT, WORD_WEIGHT)


@dataclass(frozen=True)
class Passage:
    """The first run that a text has in common with a set; it begins at word `word` of the text."""

    text: int
    set_name: str
    word: int
    run: Run


@dataclass(frozen=True, eq=False)
class _Level:
    """The runs of one weight: all hashes with a filter, and those of each set (uint64, sorted, each once)."""

    run: Run
    hashes: np.ndarray
    marks: np.ndarray  # bool [a power of two]: whether some hash begins with these bits
    of_set: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, run: Run, of_set: Mapping[str, np.ndarray]) -> "_Level":
        hashes = np.unique(np.concatenate(list(of_set.values())))
        marks = np.zeros(1 << int(_MARKS_PER_HASH * len(hashes)).bit_length(), dtype=bool)
        marks[hashes >> np.uint64(65 - len(marks).bit_length())] = True
        return cls(run, hashes, marks, of_set)

    def passages(self, words: Words) -> Iterator[Passage]:
        runs = ngrams(words, self.run)
        places = _found(runs.values, self.hashes, self.marks)
        for name, hashes in self.of_set.items():
            here = places[_are_among(runs.values[places], hashes)]
            texts, firsts = np.unique(np.searchsorted(runs.offsets, here, side="right") - 1, return_index=True)
            for text, place in zip(texts.tolist(), here[firsts].tolist(), strict=True):
                yield Passage(text, name, int(place - runs.offsets[text]), self.run)


@dataclass(frozen=True, eq=False)
class Passages:
    """All runs of some sets of texts.

    A text that is shorter than `run` is looked for as a whole, unless it is shorter than half of that. too_short: how
    many texts of each set are, which are looked for nowhere.
    """

    levels: tuple[_Level, ...]
    too_short: Mapping[str, int]

    @classmethod
    def of(cls, run: Run, sets: Mapping[str, Iterable[Words]]) -> "Passages":
        """The runs of named sets; each set comes in parts."""
        runs = {name: _weighed(parts, run) for name, parts in sets.items()}
        found = np.unique(np.concatenate([weighing for _, weighing in runs.values()]))
        long_enough = found[found >= run.weight // 2].tolist()
        levels = [
            _Level.of(
                Run(weight, run.word_weight),
                {name: np.unique(hashes[held == weight]) for name, (hashes, held) in runs.items()},
            )
            for weight in long_enough
        ]
        too_short = {name: int(np.sum(held < run.weight // 2)) for name, (_, held) in runs.items()}
        return cls(tuple(levels), too_short)

    def shared(self, words: Words) -> list[Passage]:
        """The first passage that each text shares with each set, in the order of the texts; a text may have none."""
        found: dict[tuple[int, str], Passage] = {}
        for level in self.levels:
            for passage in level.passages(words):
                found.setdefault((passage.text, passage.set_name), passage)
        return [found[key] for key in sorted(found)]


def _are_among(runs: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """Whether each run is one of sorted `hashes`, bool [runs]."""
    places = np.searchsorted(hashes, runs)
    return hashes[np.minimum(places, len(hashes) - 1)] == runs if len(hashes) else np.zeros(len(runs), dtype=bool)


def _weighed(parts: Iterable[Words], run: Run) -> tuple[np.ndarray, np.ndarray]:
    """The hashes of all runs and what each weighs, at most the weight of `run`; a text that weighs less has one run."""
    hashes, held = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for words in parts:
        runs = ngrams(words, run)
        hashes.append(runs.values)
        held.append(np.repeat(np.minimum(weights(words, run.word_weight), run.weight), runs.lengths))
    return np.concatenate(hashes), np.concatenate(held)


@njit(nogil=True, cache=True)
def _found(runs: np.ndarray, hashes: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """The places in `runs` of those that are among `hashes`."""
    shift, bits = np.uint64(64), len(marks)
    while bits > 1:
        bits >>= 1
        shift -= np.uint64(1)
    places = np.empty(len(runs), np.int64)
    count = 0
    for place in range(len(runs)):
        if marks[runs[place] >> shift]:
            at = np.searchsorted(hashes, runs[place])
            if at < len(hashes) and hashes[at] == runs[place]:
                places[count] = place
                count += 1
    return places[:count]
