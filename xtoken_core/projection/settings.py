"""What determines a projection beside its two tokenizers: the rules, how much each counts, and how rows end.

Every rule has a weight that multiplies what it gives before rows are cut and normalised; at zero the rule is off, as
are `nearest` and `cooccurrence` where they are None or what they work on is not given.

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

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SplitSettings(_Settings):
    """Tokens that the other tokenizer writes with several of its own."""

    forward: Weight = Field(default=1.0, description="weight of the teacher tokens that a student token is split into")
    reverse: Weight = Field(default=1.0, description="weight of the teacher tokens that a student token is a piece of")
    max_pieces: Count = Field(default=4, description="pieces of a split token that count")
    decay: Share = Field(default=0.1, description="what each piece counts of the one before it; 0.1 is published")


class NameSettings(_Settings):
    """Special tokens that are called alike; the defaults are those of the published construction."""

    weight: Weight = Field(default=0.8, description="multiplies the similarity of the names")
    threshold: Share = Field(default=0.3, description="similarity from which on a pair counts")
    letters: Share = Field(
        default=0.6, description="share of the letters (difflib's ratio) in a similarity; the rest is words (Jaccard)"
    )


class NearestSettings(_Settings):
    """Teacher tokens whose vectors lie next to the student token's, where vectors are given."""

    weight: Weight = 0.01
    k: Count = Field(default=8, description="neighbours of a token")
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=0.05, description="divides the cosines before the softmax: near zero only the nearest one counts"
    )


class CooccurrenceSettings(_Settings):
    """Teacher tokens that the student token met in aligned text, where counts are given.

    A student token that was met `prior` times gets half of `weight` from this rule, one that is met often all of it.
    """

    weight: Weight = 16.0
    prior: Weight = Field(default=1.0, description="meetings with no token, beside the real ones")


class ProjectionSettings(_Settings):
    """All of it; pydantic's ValidationError (a ValueError) for a value outside of its range."""

    top_k: Count = Field(default=4, description="entries kept of a row, the scale slot included")
    min_weight: Share = Field(
        default=0.0, description="entries below this share of their row are left out, but never the largest"
    )
    scale_slot: bool = Field(
        default=False, description="keep the last column empty, for a learned weight of the row and for published files"
    )
    exact: bool = Field(default=True, description="pin tokens with the same bytes to each other")
    roles: bool = Field(default=True, description="pin special tokens with the same role or the same name")
    split: SplitSettings = SplitSettings()
    names: NameSettings = NameSettings()
    nearest: NearestSettings | None = NearestSettings()
    cooccurrence: CooccurrenceSettings | None = CooccurrenceSettings()

    @model_validator(mode="after")
    def _slot_leaves_a_column(self) -> Self:
        if self.scale_slot and self.top_k == 1:
            raise ValueError("the scale slot takes the last of `top_k` columns: set top_k to 2 or more")
        return self
