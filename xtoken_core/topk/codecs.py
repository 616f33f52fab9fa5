"""How records are stored: as they are, or with half the bytes.

`float16` halves the two [N, k] columns of logarithms (10 bits of mantissa: a relative error of up to 2^-11 of the
logarithm itself); the columns with one value per position stay float32 in both.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from xtoken_core.topk.records import Records


class Codec(StrEnum):
    """The floating type of `topk_logprob` and `topk_hidden_logmass` on disk."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"


@dataclass(frozen=True)
class CodecError:
    """What encoding and decoding did to some records.

    max_mass: the largest absolute difference of any one mass, in probability.
    mean_kl: KL(decoded || original) in nats, mean over positions: the loss that a student equal to the teacher would
        still see.
    """

    max_mass: float
    mean_kl: float


def encode(records: Records, codec: Codec) -> Records:
    """`records` in the types that `codec` stores. ValueError for an unknown codec."""
    dtype = np.dtype(Codec(codec).value)
    return replace(
        records,
        topk_logprob=records.topk_logprob.astype(dtype, copy=False),
        topk_hidden_logmass=records.topk_hidden_logmass.astype(dtype, copy=False),
    )


def decode(records: Records, codec: Codec) -> Records:
    """Stored `records` in float32, their masses summing to one.

    `float32` was stored normalised and comes back as it is. After `float16` the rest is what the rounded masses leave;
    where they leave nothing, or where nothing was left at first, the rest is -inf and the others are scaled to one.
    """
    if Codec(codec) is Codec.FLOAT32:
        return records
    logprob, hidden = records.topk_logprob.astype(np.float64), records.topk_hidden_logmass.astype(np.float64)
    held = np.exp(logprob).sum(axis=1) + np.exp(hidden).sum(axis=1)
    full = (held >= 1) | np.isneginf(records.rest_logmass)
    with np.errstate(divide="ignore"):
        log_scale = np.where(full, np.log(held), 0.0)[:, None]
        rest = np.log(np.where(full, 0.0, 1 - held))
    return replace(
        records,
        topk_logprob=(logprob - log_scale).astype(np.float32),
        topk_hidden_logmass=(hidden - log_scale).astype(np.float32),
        rest_logmass=rest.astype(np.float32),
    )


def codec_error(records: Records, codec: Codec) -> CodecError:
    """What a cache stored with `codec` loses of `records` (at least one position)."""
    original = _all_masses(records)
    decoded = _all_masses(decode(encode(records, codec), codec))
    return CodecError(
        max_mass=float(np.abs(np.exp(decoded) - np.exp(original)).max()),
        mean_kl=float(_kl(decoded, original).mean()),
    )


def _all_masses(records: Records) -> np.ndarray:
    """Logarithms of all masses, float64 [N, 2k + 1]."""
    parts = [records.topk_logprob, records.topk_hidden_logmass, records.rest_logmass[:, None]]
    return np.concatenate(parts, axis=1).astype(np.float64)


def _kl(logmass: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """KL(mass || reference), nats [N]; no mass contributes nothing."""
    present = np.isfinite(logmass)
    difference = np.subtract(logmass, reference, out=np.zeros_like(logmass), where=present)
    return (np.exp(logmass) * difference).sum(axis=1)
