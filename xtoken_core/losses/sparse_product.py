"""Dense times sparse, with a gradient for the few weights of the sparse side that costs no more than they do.

torch's own gradient for a sparse matrix fills it first: 4 GB and 2 TFLOP per 1,000 rows for 8,192 of a teacher's ids
and 128,000 of a student's, of which one entry in 10,000 is kept.
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

_BLOCK = 1 << 22  # numbers gathered at a time: 16 MB in float32


def sparse_product(dense: torch.Tensor, places: torch.Tensor, weights: torch.Tensor, columns: int) -> torch.Tensor:
    """`dense` [N, D] times the matrix [D, columns] that has `weights` [E] at `places`, [N, columns].

    places: int64 [2, E], the column and the row of each weight; weights at the same place add up. Both `dense` and
        `weights`, of one type, get a gradient.
    """
    product: torch.Tensor = _SparseProduct.apply(dense, places, weights, columns)
    return product


class _SparseProduct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, dense: torch.Tensor, places: torch.Tensor, weights: torch.Tensor, columns: int
    ) -> torch.Tensor:
        matrix = torch.sparse_coo_tensor(places, weights, (columns, dense.shape[1]), check_invariants=True).coalesce()
        # What is as wide as the student's vocabulary is kept for the gradient of the weights only.
        ctx.save_for_backward(matrix, places, dense if ctx.needs_input_grad[2] else None)
        return torch.sparse.mm(matrix, dense.T).T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        matrix, places, dense = ctx.saved_tensors
        of_dense = torch.sparse.mm(matrix.t(), gradient.T).T if ctx.needs_input_grad[0] else None
        of_weights = None if dense is None else _weights_gradient(dense, places, gradient)
        return of_dense, None, of_weights, None


def _weights_gradient(dense: torch.Tensor, places: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """[E]: at each place the product of its column of `gradient` [N, columns] with its row's column of `dense`."""
    blocks = places.split(max(1, _BLOCK // max(1, len(dense))), dim=1)
    return torch.cat([(gradient[:, column] * dense[:, row]).sum(dim=0) for column, row in blocks])
