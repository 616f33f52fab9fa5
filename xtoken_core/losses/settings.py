"""What the losses can be told."""

import math
from dataclasses import dataclass, field

from xtoken_core.loss_options import UNCOMMON_TOPK
from xtoken_core.losses.divergence import Divergence


@dataclass(frozen=True)
class LossSettings:
    """temperature: divides the logits of both sides before they are compared.

    Raises:
        ValueError: for a temperature that is not above zero.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise ValueError(f"temperature is {self.temperature}: give a finite number above 0, such as 1")


@dataclass(frozen=True)
class KLSettings(LossSettings):
    """Losses that are a divergence of two distributions; all but prefix_kl have the temperature squared as factor."""

    divergence: Divergence = field(default_factory=Divergence)


@dataclass(frozen=True)
class GoldSettings(KLSettings):
    """uncommon_topk: how many of each side's largest probabilities outside the common tokens are compared.

    Raises:
        ValueError: for less than one.
    """

    uncommon_topk: int = UNCOMMON_TOPK

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.uncommon_topk < 1:
            raise ValueError(f"uncommon_topk is {self.uncommon_topk}: give at least 1")
