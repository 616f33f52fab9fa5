"""Losses in torch, on any device: a reference form of each, which says what it is, and a fast one of little memory."""

from xtoken_core.losses.cell_batch import CellBatch
from xtoken_core.losses.chunk_losses import alm, gold, p_kl
from xtoken_core.losses.chunks import ChunkRows, Chunks, chunks_of_tokens
from xtoken_core.losses.columns import column_maxima, likeliest
from xtoken_core.losses.common import CommonTokens, ProjectionTensors, common_tokens
from xtoken_core.losses.divergence import Divergence, DivergenceKind
from xtoken_core.losses.fast.blocks import Computed, compute
from xtoken_core.losses.fast.student import Head, Logits
from xtoken_core.losses.form import Impl
from xtoken_core.losses.mix import MixedLoss, MixSettings, mix
from xtoken_core.losses.position_losses import cross_entropy, direct_kl, direct_kl_top_k, prefix_kl, uld, uld_top_k
from xtoken_core.losses.prefix_cells import PrefixCells
from xtoken_core.losses.settings import GoldSettings, KLSettings, LossSettings
from xtoken_core.losses.sums import LossSum, LossSums, Measure
from xtoken_core.losses.topk import TopK

__all__ = [
    "CellBatch",
    "ChunkRows",
    "Chunks",
    "CommonTokens",
    "Computed",
    "Divergence",
    "DivergenceKind",
    "GoldSettings",
    "Head",
    "Impl",
    "KLSettings",
    "Logits",
    "LossSettings",
    "LossSum",
    "LossSums",
    "Measure",
    "MixSettings",
    "MixedLoss",
    "PrefixCells",
    "ProjectionTensors",
    "TopK",
    "alm",
    "chunks_of_tokens",
    "column_maxima",
    "common_tokens",
    "compute",
    "cross_entropy",
    "direct_kl",
    "direct_kl_top_k",
    "gold",
    "likeliest",
    "mix",
    "p_kl",
    "prefix_kl",
    "uld",
    "uld_top_k",
]
