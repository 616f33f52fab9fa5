"""The fast forms equal the reference in value, every measure and gradient, wherever blocks begin and end."""

import pytest
import torch
from loss_batches import LOSSES, STUDENT_SIZE, TEACHER_SIZE, TEACHER_TOKENS, Batch, evaluate, head_of, set_blocks

from xtoken_core.losses.common import ProjectionTensors, common_tokens
from xtoken_core.losses.divergence import Divergence, DivergenceKind
from xtoken_core.losses.form import Impl
from xtoken_core.losses.settings import KLSettings

EACH_LOSS = pytest.mark.parametrize("name", LOSSES)
DTYPES = [torch.float64, torch.float32, torch.bfloat16]
# Of the value, which is computed in float32 at least, and of gradients, which have the logits' type.
TOLERANCES = {torch.float64: (1e-9, 1e-9), torch.float32: (1e-4, 1e-4), torch.bfloat16: (1e-4, 2e-2)}
HALF_HEAD = (2e-2, 1e-1)  # its logits are rounded differently in a block of other rows
SETTINGS = [KLSettings(temperature, Divergence(kind, 0.3)) for temperature in (1.0, 2.0) for kind in DivergenceKind]


def require_equal(name: str, batch: Batch, settings: KLSettings, dtype: torch.dtype, from_head: bool) -> None:
    made = [head_of(dtype) if from_head else batch.logits.clone().requires_grad_() for _ in range(2)]
    fast, reference = (
        evaluate(LOSSES[name], one, batch, settings, impl)
        for one, impl in zip(made, ("fast", "reference"), strict=True)
    )
    of_value, of_gradient = HALF_HEAD if from_head and dtype == torch.bfloat16 else TOLERANCES[dtype]
    torch.testing.assert_close(fast.total, reference.total, rtol=of_value, atol=of_value)
    torch.testing.assert_close(fast.measures, reference.measures, rtol=max(of_value, 1e-5), atol=1e-6)
    assert fast.counts == reference.counts
    assert len(fast.gradients) == (3 if from_head else 1) + (name == "p_kl")
    for found, expected in zip(fast.gradients, reference.gradients, strict=True):
        scale = float(expected.abs().max())
        assert scale > 0
        torch.testing.assert_close(found, expected, rtol=of_gradient, atol=of_gradient * scale)


@EACH_LOSS
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("from_head", [False, True], ids=["logits", "head"])
def test_with_every_divergence_and_temperature(
    name: str, dtype: torch.dtype, from_head: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_blocks(monkeypatch, 5)
    for settings in SETTINGS:
        require_equal(name, Batch.of(dtype), settings, dtype, from_head)


@EACH_LOSS
@pytest.mark.parametrize("height", [1, 4, 11, 1000])
@pytest.mark.parametrize("interleaved", [False, True])
def test_wherever_blocks_end_and_chunks_lie(
    name: str, height: int, interleaved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_blocks(monkeypatch, height)
    for seed in range(10, 14):
        batch = Batch.of(torch.float64, seed, interleaved)
        require_equal(name, batch, KLSettings(1.5), torch.float64, from_head=seed % 2 == 0)


@EACH_LOSS
@pytest.mark.parametrize("settings", SETTINGS)
def test_where_tokens_are_forbidden(name: str, settings: KLSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    set_blocks(monkeypatch, 5)
    batch = Batch.of(torch.float64)
    forbidden, of_teacher = forbidden_tokens(name, batch)
    batch.logits[:, forbidden] = -torch.inf
    batch.teacher_logits[:, of_teacher] = -torch.inf
    batch.record.logprob[torch.isin(batch.record.ids, forbidden)] = -torch.inf
    batch.targets[torch.isin(batch.targets, forbidden)] = 1
    require_equal(name, batch, settings, torch.float64, from_head=False)


def forbidden_tokens(name: str, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids of either side that leave the loss finite: what one side alone forbids can be infinitely far."""
    if name in ("gold", "h_kl"):
        projection = ProjectionTensors(batch.indices, batch.weights)
        common = common_tokens(projection, STUDENT_SIZE, TEACHER_SIZE, None if name == "gold" else 0.6)
        student = torch.cat([common.student_ids[:1], common.student_rest[:2]])
        return student, torch.cat([common.teacher_ids[:1], common.teacher_rest[1:4]])
    student = torch.tensor([0, 4, 5])
    return student, torch.tensor([1, 5]) if name == "p_kl" else student


@pytest.mark.parametrize("impl", ["fast", "reference"])
@pytest.mark.parametrize("name", ["p_kl", "gold"])
def test_what_is_infinitely_far_in_a_dropped_sample_does_no_harm(name: str, impl: Impl) -> None:
    batch, settings = Batch.of(torch.float64), KLSettings(divergence=Divergence(DivergenceKind.REVERSE))
    batch.teacher_logits[TEACHER_TOKENS : 2 * TEACHER_TOKENS, :30] = -torch.inf
    found = evaluate(LOSSES[name], batch.logits.clone().requires_grad_(), batch, settings, impl)
    assert found.total.isfinite()
    assert all(gradient.isfinite().all() for gradient in found.gradients)
