import numpy as np
import pytest
import torch

from xtoken_core.losses.chunk_losses import p_kl
from xtoken_core.losses.chunks import chunks_of_tokens
from xtoken_core.losses.common import ProjectionTensors
from xtoken_core.losses.settings import KLSettings
from xtoken_core.projection import Projection, Rule
from xtoken_core.projection.learnable import LearnableProjection

ONE, MULTI, EMPTY = Rule.EXACT, Rule.MULTI_TOKEN, Rule.EMPTY
W = Projection(
    indices=np.array([[3, -1, -1], [1, 2, -1], [-1, -1, -1], [0, 2, 4]], dtype=np.int32),
    weights=np.array([[1, 0, 0], [0.9, 0.1, 0], [0, 0, 0], [0.5, 0.3, 0.2]], dtype=np.float32),
    rules=np.array([[ONE, EMPTY, EMPTY], [MULTI, MULTI, EMPTY], [EMPTY] * 3, [MULTI] * 3], dtype=np.int8),
)


def test_it_begins_at_w_and_keeps_its_entries() -> None:
    learnable = LearnableProjection(W)
    assert torch.allclose(learnable(), torch.from_numpy(W.weights))
    with torch.no_grad():
        learnable.logits += torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    weights = learnable()
    assert ((weights > 0) == (learnable.indices >= 0)).all()
    assert weights.sum(dim=1).tolist() == pytest.approx([1, 1, 0, 1])


def test_a_learned_projection_is_one_again() -> None:
    learnable = LearnableProjection(W)
    with torch.no_grad():
        learnable.logits[3] = torch.tensor([0.0, 2.0, 1.0])
    learned = learnable.projection(W.rules)
    assert learned.indices.tolist() == [[3, -1, -1], [1, 2, -1], [-1, -1, -1], [2, 4, 0]]
    assert learned.weights[3].tolist() == pytest.approx(torch.tensor([2.0, 1.0, 0.0]).softmax(0).tolist())
    assert np.array_equal(learned.rules == EMPTY, learned.indices < 0)


def test_the_scale_slot_takes_a_share_of_the_row() -> None:
    rows = slice(0, 3)  # their last column is empty
    learnable = LearnableProjection(Projection(W.indices[rows], W.weights[rows], W.rules[rows]), scale_slot=True)
    kept = 1 / (1 + np.exp(-4))
    assert learnable().sum(dim=1).tolist() == pytest.approx([kept, kept, 0])
    assert learnable()[1].tolist() == pytest.approx([0.9 * kept, 0.1 * kept, 0])
    with pytest.raises(ValueError, match="has entries, so it is no scale slot"):
        LearnableProjection(W, scale_slot=True)


def p_kl_of(weights: torch.Tensor) -> torch.Tensor:
    """The loss of two chunks of one token each, between random logits."""
    draw = torch.Generator().manual_seed(1)
    chunk, both = torch.tensor([[-1, 0, 1]]), torch.ones(1, 2, dtype=torch.bool)
    return p_kl(
        torch.randn(3, 4, generator=draw),
        torch.randn(3, 5, generator=draw),
        chunks_of_tokens(chunk, chunk, both, both, torch.ones(1)),
        ProjectionTensors(torch.from_numpy(W.indices), weights),
        torch.arange(5),
        KLSettings(),
    ).loss.total


def test_p_kl_trains_the_weights() -> None:
    learnable = LearnableProjection(W)
    before = p_kl_of(learnable())
    before.backward()
    gradient = learnable.logits.grad
    assert gradient is not None
    assert gradient.isfinite().all()
    assert (gradient[3] != 0).all()
    assert (gradient[[0, 2]] == 0).all()  # one entry, and none
    with torch.no_grad():
        learnable.logits -= 0.5 * gradient
    assert p_kl_of(learnable()) < before


def test_the_gradient_is_that_of_finite_differences() -> None:
    learnable = LearnableProjection(W).double()
    p_kl_of(learnable()).backward()
    step = torch.zeros_like(learnable.logits)
    step[3, 1] = 1e-3
    with torch.no_grad():
        ends = []
        for sign in (1, -1):
            moved = LearnableProjection(W).double()
            moved.logits += sign * step
            ends.append(p_kl_of(moved()))
    assert learnable.logits.grad[3, 1].item() == pytest.approx(((ends[0] - ends[1]) / 2e-3).item(), rel=1e-2)
