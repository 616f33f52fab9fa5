"""From a teacher's logits to records."""

import numpy as np
import torch

from xtoken_core.prefix_compiled import masses_by_prefix
from xtoken_core.prefix_order import PrefixOrder
from xtoken_core.topk.records import Records
from xtoken_core.vocabulary import Vocabulary

# A block of rows in float32 should stay near the processor's cache: 64 rows of a 49k vocabulary are 13 MB.
_BLOCK_ROWS = 64


def make_records(logits: torch.Tensor, next_ids: torch.Tensor, vocabulary: Vocabulary, k: int) -> Records:
    """Records of the distributions that `logits` [N, columns], of any floating type and device, stand for.

    They are normalised in float32 over the real ids alone: a head padded beyond `vocabulary.size` loses the extra
    columns; a head with fewer columns than ids is fine, the missing ids have no probability. With k at or above the
    number of ids everything is stored, and a record then has as many tokens as there are ids.

    next_ids: int [N], the token that follows each position in the text, -1 for none.

    Raises ValueError where the head has no column for a next id, or logits are not a distribution (NaN, infinity).
    """
    logits = logits.detach()[:, : vocabulary.size]
    _check_next_ids(next_ids, columns=logits.shape[1])
    order = PrefixOrder.of(vocabulary)
    starts = range(0, max(len(logits), 1), _BLOCK_ROWS)
    blocks = [slice(start, start + _BLOCK_ROWS) for start in starts]
    records = Records.concatenate([_block_records(logits[rows], next_ids[rows], order, k) for rows in blocks])
    _check_finite(records.logsumexp)
    return records


def _check_next_ids(next_ids: torch.Tensor, columns: int) -> None:
    largest = int(next_ids.max()) if len(next_ids) else -1
    if largest >= columns:
        raise ValueError(
            f"next_ids holds the id {largest}, but the logits have {columns} columns that are real ids: "
            "tokenize with the tokenizer that belongs to this model"
        )


def _check_finite(logsumexp: np.ndarray) -> None:
    """A token may be impossible, with a logit of -inf; any other logit that is no number spoils its whole position."""
    broken = np.flatnonzero(~np.isfinite(logsumexp))
    if len(broken):
        raise ValueError(
            f"the logits of position {broken[0]} are no distribution: their logsumexp is {logsumexp[broken[0]]}. Run "
            "the model in float32; if it stays so, check its weights for NaN"
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
    masses = masses_by_prefix(not_stored, topk_ids, order.order, order.start, order.end)
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
