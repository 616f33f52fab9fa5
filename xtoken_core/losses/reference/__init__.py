"""The losses in plain torch, a page each: what they are. The fast forms must equal them in value and gradient."""

from xtoken_core.losses.reference.alm import alm
from xtoken_core.losses.reference.ce import cross_entropy
from xtoken_core.losses.reference.direct_kl import direct_kl, direct_kl_top_k
from xtoken_core.losses.reference.gold import gold
from xtoken_core.losses.reference.p_kl import p_kl
from xtoken_core.losses.reference.prefix_kl import prefix_kl
from xtoken_core.losses.reference.uld import uld, uld_top_k

__all__ = [
    "alm",
    "cross_entropy",
    "direct_kl",
    "direct_kl_top_k",
    "gold",
    "p_kl",
    "prefix_kl",
    "uld",
    "uld_top_k",
]
