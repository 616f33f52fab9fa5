"""float32 against float64 at the width of real vocabularies: six digits of the loss, in both forms."""

from collections.abc import Callable

import pytest
import torch

from xtoken_core.losses.cell_batch import CellBatch
from xtoken_core.losses.chunk_losses import gold, p_kl
from xtoken_core.losses.chunks import Chunks, chunks_of_tokens
from xtoken_core.losses.common import ProjectionTensors, common_tokens
from xtoken_core.losses.form import Impl
from xtoken_core.losses.position_losses import cross_entropy, direct_kl, prefix_kl, uld
from xtoken_core.losses.settings import GoldSettings, KLSettings, LossSettings
from xtoken_core.losses.sums import LossSums

STUDENT_SIZE, TEACHER_SIZE, COMMON, ROWS = 150_000, 120_000, 100_000, 4
IDS = torch.arange(STUDENT_SIZE)

Loss = Callable[[torch.Tensor, torch.Tensor, Impl], LossSums]


def identity(dtype: torch.dtype) -> ProjectionTensors:
    """The first ids of both sides are the same tokens."""
    indices = torch.where(IDS < COMMON, IDS, -1)[:, None]
    return ProjectionTensors(indices.int(), (indices >= 0).to(dtype))


def token_by_token() -> Chunks:
    each, every = torch.arange(-1, ROWS - 1)[None], torch.ones(1, ROWS - 1, dtype=torch.bool)
    return chunks_of_tokens(each, each, every, every, torch.ones(1))


def of_p_kl(student: torch.Tensor, teacher: torch.Tensor, impl: Impl) -> LossSums:
    columns = IDS[: COMMON // 2]
    return p_kl(student, teacher, token_by_token(), identity(student.dtype), columns, KLSettings(), impl)


def of_gold(student: torch.Tensor, teacher: torch.Tensor, impl: Impl) -> LossSums:
    common = common_tokens(identity(student.dtype), STUDENT_SIZE, TEACHER_SIZE, threshold=None)
    return gold(student, teacher, token_by_token(), common, GoldSettings(), impl)


def of_prefix_kl(student: torch.Tensor, teacher: torch.Tensor, impl: Impl) -> LossSums:
    """Two cells of a few ids, and the rest."""
    ends, cell = torch.tensor([[1, 5, STUDENT_SIZE], [0, 1, 2]], dtype=torch.int32)
    logmass = teacher[:, :3].double().log_softmax(dim=1).to(student.dtype)
    cells = CellBatch(logmass, ends.expand(ROWS, 3), cell.expand(ROWS, 3), IDS.int())
    return prefix_kl(student, cells, KLSettings(), impl)


LOSSES: dict[str, Loss] = {
    "ce": lambda student, teacher, impl: cross_entropy(student, IDS[-ROWS:], impl),
    "direct_kl": lambda student, teacher, impl: direct_kl(student, student.detach().flip(0), None, KLSettings(), impl),
    "uld": lambda student, teacher, impl: uld(student, teacher, LossSettings(), impl),
    "p_kl": of_p_kl,
    "gold": of_gold,
    "prefix_kl": of_prefix_kl,
}


def loss_and_gradient(loss: Loss, dtype: torch.dtype, impl: Impl) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (logits(size, generator).to(dtype) for size in (STUDENT_SIZE, TEACHER_SIZE))
    total = loss(student.requires_grad_(), teacher, impl).loss.total
    total.backward()
    return total.detach().double(), student.grad.double()


def logits(size: int, generator: torch.Generator) -> torch.Tensor:
    """A few likely ids come first: what is added to their sum afterwards is small beside it."""
    values = 2 * torch.randn(ROWS, size, generator=generator)
    values[:, :30] = 10 + 3 * values[:, :30]
    return values


@pytest.mark.parametrize("impl", ["fast", "reference"])
@pytest.mark.parametrize("name", LOSSES)
def test_float32_has_six_digits(name: str, impl: Impl) -> None:
    expected, gradient = loss_and_gradient(LOSSES[name], torch.float64, "reference")
    found, own = loss_and_gradient(LOSSES[name], torch.float32, impl)
    assert abs(found - expected) <= 3e-6 * expected
    if name != "uld":  # whose gradient changes its sign where two ranks have almost the same probability
        assert (own - gradient).abs().max() <= 1e-5 * gradient.abs().max()
