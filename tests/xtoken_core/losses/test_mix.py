"""How distillation and cross-entropy become one loss."""

import pytest
import torch

from xtoken_core.losses.mix import MixSettings, mix


def test_dynamic_scaling_gives_distillation_the_size_of_cross_entropy_but_its_own_direction():
    kd, ce = torch.tensor(0.5, requires_grad=True), torch.tensor(2.0)
    mixed = mix(kd, ce, MixSettings(dynamic=True))
    mixed.loss.backward()
    assert mixed.loss == 4.0
    assert mixed.kd_scale == kd.grad == 4.0


@pytest.mark.parametrize("ce", [0.0, 2.0, 10.0])
@pytest.mark.parametrize("kd", [0.0, 1e-39, 1.5e-38])
def test_dynamic_scaling_of_no_distillation_leaves_cross_entropy(kd, ce):
    kd, ce = torch.tensor(kd, requires_grad=True), torch.tensor(ce)
    mixed = mix(kd, ce, MixSettings(dynamic=True))
    mixed.loss.backward()
    assert ce <= mixed.loss <= 2 * ce + 1e-6
    assert kd.grad.isfinite()


def test_dynamic_scaling_does_not_hide_a_loss_that_is_no_number():
    for broken in (torch.nan, torch.inf):
        assert not mix(torch.tensor(broken), torch.tensor(2.0), MixSettings(dynamic=True)).loss.isfinite()
