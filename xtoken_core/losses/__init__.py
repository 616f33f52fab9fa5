"""Losses in torch, on any device: plain forms that say what each loss is."""

from xtoken_core.losses.ce import NextTokenSums, cross_entropy, next_token_sums
from xtoken_core.losses.mix import MixedLoss, MixSettings, mix
from xtoken_core.losses.p_kl import PKLInputs, PKLSettings, PKLSums, column_maxima, p_kl
from xtoken_core.losses.prefix_cells import CellBatch, PrefixCells
from xtoken_core.losses.prefix_kl import prefix_kl
from xtoken_core.losses.sums import LossSum

__all__ = [
    "CellBatch",
    "LossSum",
    "MixSettings",
    "MixedLoss",
    "NextTokenSums",
    "PKLInputs",
    "PKLSettings",
    "PKLSums",
    "PrefixCells",
    "column_maxima",
    "cross_entropy",
    "mix",
    "next_token_sums",
    "p_kl",
    "prefix_kl",
]
