"""The losses in the form that is measured."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from xtoken_core.losses import chunk_losses, position_losses
from xtoken_core.losses.form import Impl
from xtoken_core.losses.sums import LossSums

Loss = Callable[..., LossSums]


@dataclass(frozen=True)
class Forms:
    """The losses that recordings know, in one form."""

    cross_entropy: Loss
    direct_kl: Loss
    p_kl: Loss
    gold: Loss


def forms(impl: Impl) -> Forms:
    """The losses in that form."""
    return Forms(
        cross_entropy=partial(position_losses.cross_entropy, impl=impl),
        direct_kl=partial(position_losses.direct_kl, impl=impl),
        p_kl=partial(chunk_losses.p_kl, impl=impl),
        gold=partial(chunk_losses.gold, impl=impl),
    )
