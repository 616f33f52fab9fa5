"""Numbers of each rank's part of a vocabulary, put together over the ranks."""

import torch
import torch.distributed as dist

from xtoken_core.losses.fast.student import VocabularyShard


def sum_over(values: torch.Tensor, shard: VocabularyShard) -> torch.Tensor:
    """The sum of `values` over the ranks, written to them."""
    dist.all_reduce(values, group=shard.group)
    return values


def max_over(values: torch.Tensor, shard: VocabularyShard | None) -> torch.Tensor:
    """The maximum of `values` over the ranks, written to them; themselves without a shard."""
    if shard is not None:
        dist.all_reduce(values, dist.ReduceOp.MAX, group=shard.group)
    return values


def log_sum_exp_over(values: torch.Tensor, shard: VocabularyShard | None) -> torch.Tensor:
    """The logarithm of the sum of exp(values) over the ranks, without overflow."""
    if shard is None:
        return values
    largest = max_over(values.clone(), shard)
    shift = largest.where(largest > -torch.inf, 0.0)
    return sum_over((values - shift).exp(), shard).log() + shift
