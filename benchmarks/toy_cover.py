"""What a teacher's records say at any place before a student token, written out in byte strings.

Plain `prefix_kl` speaks at common boundaries only. Here a record also speaks inside of the teacher's token, as the
*remainders* of the stored tokens that begin with the bytes read since the last boundary; and at a boundary the mass of
tokens that the student's tokenizer would have joined to the token before is left out. `xtoken_core` has compiled
forms of what proved useful.
"""

from collections import defaultdict
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise

import numpy as np

from benchmarks.toy_pair import Pair, Place
from benchmarks.toy_tokens import TokenStates
from xtoken_core.topk import Records
from xtoken_core.vocabulary import Vocabulary

_Record = tuple[list[tuple[bytes, float]], dict[bytes, float], float]  # stored tokens, hidden mass behind each, rest


@dataclass(frozen=True)
class CoverSettings:
    """inside: also places inside of a teacher token. back: how many tokens before the last boundary may reach over it.
    canonical: how is found out what the student's tokenizer would join: "" not at all, "tokenizer" by tokenizing all
    that was read, "pair" by tokenizing the token before and what follows, "ranks" by joining tokens by their ids.
    first: the cell of a token is that of the first token which the other side would begin it with.
    """

    inside: bool = False
    back: int = 0
    canonical: str = ""
    first: bool = False


@dataclass(frozen=True, eq=False)
class Cover:
    """masses: by remainder; zero for those that the student's tokenizer would join. rest: of what begins with none."""

    masses: dict[bytes, float]
    rest: float


class Covers:
    """The covers of all places of a pair, from records of the teacher's states."""

    def __init__(self, pair: Pair, records: Records, settings: CoverSettings) -> None:
        self.pair, self.records, self.settings = pair, records, settings
        self.student_bytes = spelled(pair.student.vocabulary)
        self.teacher_bytes = spelled(pair.teacher.vocabulary)
        self._record_of = cache(self._read_record)
        self.split_student = cache(lambda text: _split(pair.student, text))
        self.split_teacher = cache(lambda text: _split(pair.teacher, text))

    @cached_property
    def rank(self) -> dict[bytes, int]:
        return {token: i for i, token in reversed(list(enumerate(self.student_bytes)))}

    @cached_property
    def student_tokens(self) -> set[bytes]:
        return set(self.student_bytes)

    def cells(self, place: Place) -> tuple[np.ndarray, np.ndarray] | None:
        """Teacher mass by cell, the rest last, and the cell of each student id; None where nothing is known."""
        cover = self.of(place)
        if cover is None:
            return None
        opened = sorted(set(cover.masses) & self.student_tokens)
        cell = {token: i for i, token in enumerate(opened)}
        mass = np.zeros(len(opened) + 1)
        for remainder, value in cover.masses.items():
            by_first = self.settings.first and remainder not in cell
            mass[_cell(self.split_student(remainder)[0] if by_first else remainder, cell)] += value
        ids = [self._cell_of_student(token, cell) for token in self.student_bytes]
        mass[-1] = mass[-1] + cover.rest if len(opened) in ids else 0.0
        return (mass / mass.sum(), np.array(ids)) if mass.sum() > 0 else None

    def _cell_of_student(self, token: bytes, cell: dict[bytes, int]) -> int:
        by_first = self.settings.first and token not in cell
        return _cell(self.split_teacher(token)[0] if by_first else token, cell)

    def of(self, place: Place) -> Cover | None:
        """Of one place; None inside of a token where only boundaries are asked for."""
        if place.start < place.offset and not self.settings.inside:
            return None
        masses: dict[bytes, float] = defaultdict(float)
        rest = self._add_last(place, masses)
        self._add_reaching(place, masses)
        kept = {remainder: mass if self._follows(place, remainder) else 0.0 for remainder, mass in masses.items()}
        return Cover(kept, rest)

    def _add_last(self, place: Place, masses: dict[bytes, float]) -> float:
        """The record at the last boundary, given the bytes read since; returns the rest.

        A token that ends here goes on with something that no longer token would have begun with: the rest.
        """
        read = self.pair.text(place.item)[place.start : place.offset]
        tokens, hidden, record_rest = self._record(place, place.boundary)
        rest = 0.0 if read else record_rest
        for token, mass in tokens:
            if read and token == read:
                rest += mass + hidden[token]
            elif token.startswith(read):
                masses[token[len(read) :]] += mass + hidden[token]
        return rest

    def _add_reaching(self, place: Place, masses: dict[bytes, float]) -> None:
        """Tokens that begin before the last boundary and end beyond the place."""
        text, path = self.pair.text(place.item), self.pair.teacher.paths[place.item]
        weight, start = 1.0, place.start
        for boundary in range(place.boundary - 1, max(-1, place.boundary - 1 - self.settings.back), -1):
            state = self.pair.teacher.state[place.context][place.item][boundary]
            weight /= self.pair.teacher.truth[state, path[boundary]]
            start -= len(self.teacher_bytes[path[boundary]])
            read = text[start : place.offset]
            tokens, hidden, _ = self._record(place, boundary)
            for token, mass in tokens:
                if token.startswith(read) and token != read:
                    masses[token[len(read) :]] += weight * (mass + hidden[token])

    def _record(self, place: Place, boundary: int) -> "_Record":
        return self._record_of(self.pair.teacher.state[place.context][place.item][boundary])

    def _read_record(self, state: int) -> "_Record":
        ids, logprob = self.records.topk_ids[state], self.records.topk_logprob[state]
        stored = [(self.teacher_bytes[i], float(p)) for i, p in zip(ids, np.exp(logprob), strict=True) if p > 0]
        hidden = np.exp(self.records.topk_hidden_logmass[state]).tolist()
        by_token = dict(zip((self.teacher_bytes[i] for i in ids), hidden, strict=True))
        return stored, by_token, float(np.exp(self.records.rest_logmass[state]))

    def _follows(self, place: Place, remainder: bytes) -> bool:
        """Whether the student's tokenizer ends a token at the place if the text goes on with `remainder`."""
        if not self.settings.canonical or not place.path:
            return True
        before = [self.student_bytes[i] for i in place.path]
        if self.settings.canonical == "tokenizer":
            return list(self.split_student(b"".join(before) + remainder)[: len(before)]) == before
        if self.settings.canonical == "pair":
            return self.split_student(before[-1] + remainder)[0] == before[-1]
        return not joined(before[-1], remainder, self.rank)


def joined(last: bytes, remainder: bytes, rank: dict[bytes, int]) -> bool:
    """Whether byte-pair encoding joins the token `last` with the beginning of `remainder`, given each token's rank.

    `last` is one part already; the pair of neighbours of the lowest rank is joined, again and again.
    """
    parts = [last, *(remainder[i : i + 1] for i in range(len(remainder)))]
    while True:
        ranks = [rank.get(left + right, len(rank)) for left, right in pairwise(parts)]
        if not ranks or min(ranks) == len(rank):
            return False
        at = ranks.index(min(ranks))
        if at == 0:
            return True
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


def spelled(vocabulary: Vocabulary) -> list[bytes]:
    """The bytes of each id."""
    return [vocabulary.token_bytes(i) for i in range(vocabulary.size)]


def longest(text: bytes, tokens: set[bytes]) -> bytes:
    """The longest prefix of `text` that is a token, b"" for none."""
    return next((text[:length] for length in range(len(text), 0, -1) if text[:length] in tokens), b"")


def _split(side: TokenStates, text: bytes) -> tuple[bytes, ...]:
    ids = side.tokenizer.encode_plain([text.decode()]).row(0)
    return tuple(side.vocabulary.token_bytes(i) for i in ids)


def _cell(token: bytes, cell: dict[bytes, int]) -> int:
    return next((cell[token[:length]] for length in range(len(token), 0, -1) if token[:length] in cell), len(cell))
