"""What determines a projection beside its two tokenizers: the rules, how much each counts, and how rows end.

Every rule has a weight that multiplies what it gives before rows are cut and normalised; at zero the rule is off.

The weights were chosen by how well W, given the student's next token, predicts the teacher's on held-out text (12 MB of
Python sources and documentation; `python -m benchmarks projection-weights`), in nats over the rows that are not pinned:

    rules                         Gemma-3 <- Llama-3.1    GPT-2 <- SmolLM2    Llama-3 <- Qwen
    split forward                 0.916                   0.985               0.103
    and reverse, weight 0.1       0.534                   0.527               0.103
    and reverse, weight 1         0.498                   0.473               0.103
    and nearest, weight 0.03                              0.487
    and nearest, weight 0.3                               0.600
    and co-occurrence, weight 1   0.148                                       0.060
    and co-occurrence, weight 16  0.099                                       0.021
    and co-occurrence, weight 64  0.097                                       0.017

Each line of the last two groups adds to both splits alone. Such rows are 0.9 to 2% of what follows in a text.
Neighbours (in SmolLM2's embeddings) never helped where pieces were known: they get a weight that only matters where
little else is known. A prior between 0 and 3 makes a difference below 0.002.
"""

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class SplitSettings:
    """Tokens that the other tokenizer writes with several of its own.

    forward: weight of the teacher tokens that a student token is split into. reverse: weight of the teacher tokens that
    a student token is a piece of. max_pieces: pieces of a split token that count. decay: what each piece counts of the
    one before it; 0.1 is the published value.
    """

    forward: float = 1.0
    reverse: float = 1.0
    max_pieces: int = 4
    decay: float = 0.1

    def __post_init__(self) -> None:
        _require("split", self, forward=_WEIGHT, reverse=_WEIGHT, max_pieces=_COUNT, decay=_SHARE)


@dataclass(frozen=True)
class NameSettings:
    """Special tokens that are called alike; the defaults are those of the published construction.

    weight: multiplies the similarity. threshold: similarity from which on a pair counts. letters: share of the
    letters' similarity (difflib's ratio) in the whole; the rest is that of the words (Jaccard).
    """

    weight: float = 0.8
    threshold: float = 0.3
    letters: float = 0.6

    def __post_init__(self) -> None:
        _require("names", self, weight=_WEIGHT, threshold=_SHARE, letters=_SHARE)


@dataclass(frozen=True)
class NearestSettings:
    """Teacher tokens whose vectors lie next to the student token's, where vectors are given.

    k: neighbours of a token. temperature: divides the cosines before the softmax over the neighbours; the nearer to
    zero, the more the nearest one counts.
    """

    weight: float = 0.01
    k: int = 8
    temperature: float = 0.05

    def __post_init__(self) -> None:
        _require("nearest", self, weight=_WEIGHT, k=_COUNT, temperature=_POSITIVE)


@dataclass(frozen=True)
class CooccurrenceSettings:
    """Teacher tokens that the student token met in aligned text, where counts are given.

    prior: so many meetings, beside the real ones, are with no token: a student token that was met `prior` times gets
    half of `weight` from this rule, one that is met often all of it.
    """

    weight: float = 16.0
    prior: float = 1.0

    def __post_init__(self) -> None:
        _require("cooccurrence", self, weight=_WEIGHT, prior=_WEIGHT)


@dataclass(frozen=True)
class ProjectionSettings:
    """All of it.

    top_k: entries kept of a row, the scale slot included. min_weight: entries below this share of their row are left
    out, but never the largest. scale_slot: keep the last column empty, for a learned weight of the row (see
    `LearnableProjection`) and for files in the published form. exact: pin tokens with the same bytes to each other.
    roles: pin special tokens with the same role or the same name.

    ValueError for a value outside of its range.
    """

    top_k: int = 4
    min_weight: float = 0.0
    scale_slot: bool = False
    exact: bool = True
    roles: bool = True
    split: SplitSettings = field(default_factory=SplitSettings)
    names: NameSettings = field(default_factory=NameSettings)
    nearest: NearestSettings = field(default_factory=NearestSettings)
    cooccurrence: CooccurrenceSettings = field(default_factory=CooccurrenceSettings)

    def __post_init__(self) -> None:
        _require("projection", self, top_k=_Range(2 if self.scale_slot else 1), min_weight=_SHARE)


@dataclass(frozen=True)
class _Range:
    low: float
    high: float = math.inf
    open_low: bool = False

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high and value < math.inf and not (self.open_low and value == self.low)

    def __str__(self) -> str:
        least = f"{'above' if self.open_low else 'at least'} {self.low}"
        return least if self.high == math.inf else f"{least} and at most {self.high}"


_WEIGHT = _Range(0)
_COUNT = _Range(1)
_SHARE = _Range(0, 1)
_POSITIVE = _Range(0, open_low=True)


def _require(group: str, settings: object, **ranges: _Range) -> None:
    for name, allowed in ranges.items():
        value = getattr(settings, name)
        if value not in allowed:
            raise ValueError(f"{group}: {name} is {value}; it must be {allowed}.")
