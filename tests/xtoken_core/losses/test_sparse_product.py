import pytest
import torch

from xtoken_core.losses.sparse_product import sparse_product

PLACES = torch.tensor([[0, 2, 2, 1, 2], [0, 1, 4, 4, 1]])  # one place twice; no weight in row 3, none in column 3


def filled(weights: torch.Tensor) -> torch.Tensor:
    """The matrix [5, 4] with all its zeros."""
    return weights.new_zeros(5, 4).index_put((PLACES[1], PLACES[0]), weights, accumulate=True)


def some(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("block", [1, 6, 1 << 22])
def test_it_is_the_product_in_value_and_gradient(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xtoken_core.losses.sparse_product._BLOCK", block)
    dense, weights = some(15, 0).view(3, 5).requires_grad_(), some(5, 1).requires_grad_()
    upstream = some(12, 2).view(3, 4)
    found, expected = sparse_product(dense, PLACES, weights, 4), dense @ filled(weights)
    torch.testing.assert_close(found, expected)
    gradients = (torch.autograd.grad(product, (dense, weights), upstream) for product in (found, expected))
    torch.testing.assert_close(*gradients)


def test_the_gradient_is_that_of_finite_differences() -> None:
    dense, weights = some(15, 0).view(3, 5).requires_grad_(), some(5, 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, w: sparse_product(x, PLACES, w, 4), (dense, weights))


@pytest.mark.parametrize(("rows", "entries"), [(0, 5), (3, 0)])
def test_nothing_to_multiply_gives_zeros(rows: int, entries: int) -> None:
    dense, weights = some(rows * 5, 0).view(rows, 5).requires_grad_(), some(entries, 1).requires_grad_()
    product = sparse_product(dense, PLACES[:, :entries], weights, 4)
    product.sum().backward()
    assert product.shape == (rows, 4)
    assert product.count_nonzero() == weights.grad.count_nonzero() == dense.grad.count_nonzero() == 0


def test_fixed_weights_keep_nothing_as_wide_as_the_vocabulary() -> None:
    dense = some(15, 0).view(3, 5).requires_grad_()
    product = sparse_product(dense, PLACES, some(5, 1), 4)
    assert product.grad_fn.saved_tensors[2] is None
    product.sum().backward()
    torch.testing.assert_close(dense.grad, filled(some(5, 1)).sum(dim=1).expand(3, 5))
