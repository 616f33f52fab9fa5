"""From a teacher's logits to records."""

import numpy as np
import torch
from numba import njit

from xtoken_core.prefix_order import PrefixOrder, paint
from xtoken_core.topk.records import Records
from xtoken_core.vocabulary import Vocabulary

# A block of rows in float32 should stay near the processor's cache: 64 rows of a 49k vocabulary are 13 MB.
_BLOCK_ROWS = 64


def make_records(logits: torch.Tensor, next_ids: torch.Tensor, vocabulary: Vocabulary, k: int) -> Records:
    """Records of the distributions that `logits` [N, columns], of any floating type and device, stand for.

    They are normalised in float32 over the real ids alone: a head padded beyond `vocabulary.size` loses the extra
    columns; a head with fewer columns than ids is fine, the missing ids have no probability. With k at or above the
    number of ids everything is stored, and a record then has as many tokens as there are ids.

    next_ids: int [N], the token that follows each position in the text, -1 for none. ValueError where the head has no
    column for it.
    """
    logits = logits.detach()[:, : vocabulary.size]
    _check_next_ids(next_ids, columns=logits.shape[1])
    order = PrefixOrder.of(vocabulary)
    starts = range(0, max(len(logits), 1), _BLOCK_ROWS)
    blocks = [slice(start, start + _BLOCK_ROWS) for start in starts]
    return Records.concatenate([_block_records(logits[rows], next_ids[rows], order, k) for rows in blocks])


def _check_next_ids(next_ids: torch.Tensor, columns: int) -> None:
    largest = int(next_ids.max()) if len(next_ids) else -1
    if largest >= columns:
        raise ValueError(
            f"next_ids holds the id {largest}, but the logits have {columns} columns that are real ids: "
            "tokenize with the tokenizer that belongs to this model"
        )


def _block_records(logits: torch.Tensor, next_ids: torch.Tensor, order: PrefixOrder, k: int) -> Records:
    logits = logits.float()
    logsumexp = logits.logsumexp(dim=-1)
    log_probs = logits - logsumexp[:, None]
    probs = log_probs.exp()
    entropy = -(probs * log_probs).nansum(dim=-1)  # 0 * -inf is nan, and is no entropy
    top = log_probs.topk(min(k, log_probs.shape[1]), dim=-1)
    topk_ids = top.indices.int().cpu().numpy()
    not_stored = probs.scatter_(1, top.indices, 0.0).cpu().numpy()
    masses = _masses_by_prefix(not_stored, topk_ids, order.order, order.start, order.end)
    with np.errstate(divide="ignore"):  # no mass has the logarithm -inf
        logmass = np.log(masses).astype(np.float32)
    return Records(
        topk_ids=topk_ids,
        topk_logprob=top.values.cpu().numpy(),
        topk_hidden_logmass=logmass[:, :-1],
        rest_logmass=logmass[:, -1],
        next_logprob=_next_logprob(log_probs, next_ids.to(log_probs.device)).cpu().numpy(),
        logsumexp=logsumexp.cpu().numpy(),
        entropy=entropy.cpu().numpy(),
    )


def _next_logprob(log_probs: torch.Tensor, next_ids: torch.Tensor) -> torch.Tensor:
    found = log_probs.gather(1, next_ids.long().clamp(min=0)[:, None])[:, 0]
    return torch.where(next_ids < 0, torch.nan, found)


@njit(nogil=True, cache=True)
def _masses_by_prefix(
    probs: np.ndarray, topk_ids: np.ndarray, order: np.ndarray, start: np.ndarray, end: np.ndarray
) -> np.ndarray:
    """Sums `probs` [N, columns] by the longest stored byte-prefix of each token: float64 [N, k + 1], last the rest.

    Where several stored tokens have equal bytes the most probable one holds the sum.
    """
    rows, k = topk_ids.shape
    masses = np.zeros((rows, k + 1))
    holder = np.empty(len(order), dtype=np.int32)
    slots = np.arange(k - 1, -1, -1, dtype=np.int32)
    for row in range(rows):
        stored = topk_ids[row, ::-1]
        paint(start[stored], end[stored], slots, k, holder)
        _add_by_holder(probs[row], order, holder, masses[row])
    return masses


@njit(nogil=True, cache=True)
def _add_by_holder(probs: np.ndarray, order: np.ndarray, holder: np.ndarray, masses: np.ndarray) -> None:
    """Adds each token's probability to its holder's mass; neighbours mostly share one, so it is kept in a register."""
    current, mass = holder[0], 0.0
    for place, token in enumerate(order):
        if holder[place] != current:
            masses[current] += mass
            current, mass = holder[place], 0.0
        if token < len(probs):
            mass += probs[token]
    masses[current] += mass
