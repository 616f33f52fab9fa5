"""How distillation and cross-entropy become one loss."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class MixSettings:
    """Weights of the two losses; with `dynamic` they are not used: distillation is scaled to cross-entropy's size."""

    kd_weight: float = 1.0
    ce_weight: float = 0.1
    dynamic: bool = False


@dataclass(frozen=True, eq=False)
class MixedLoss:
    """`loss` to differentiate; `kd_scale`, the factor that `dynamic` put on distillation, else one."""

    loss: torch.Tensor
    kd_scale: torch.Tensor


def mix(kd: torch.Tensor, ce: torch.Tensor, settings: MixSettings) -> MixedLoss:
    """`kd_weight * kd + ce_weight * ce`, or `kd * |ce| / |kd| + ce`, the factor without gradient.

    kd, ce: means without dimensions, already divided by what they are normalised with. Dynamic scaling must see means
    over all ranks, or the ranks would scale differently.
    """
    if not settings.dynamic:
        return MixedLoss(settings.kd_weight * kd + settings.ce_weight * ce, torch.ones_like(kd))
    kd_scale = ce.detach().abs() / kd.detach().abs()
    kd_scale = torch.where(kd_scale.isfinite(), kd_scale, 1.0)  # a distillation loss of zero stays zero
    return MixedLoss(kd * kd_scale + ce, kd_scale)
