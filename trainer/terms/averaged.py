"""One loss against the mean of several teachers' logits."""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

import numpy as np
import torch

from trainer.terms.builders import ReadyDirectKL
from trainer.terms.plan import TermPlan
from xtoken_core.losses.columns import column_maxima
from xtoken_core.losses.fast.position_term import Positions
from xtoken_core.losses.teachers import averaged_logits


def average(plans: Sequence[TermPlan | None], weights: Sequence[float]) -> TermPlan | None:
    """From the teachers' plans of direct_kl; None where one of them has nothing.

    Positions that some teacher has no logits for are left out, and so is a window that one of them does not read.
    """
    found = [plan for plan in plans if plan is not None]
    if len(found) < len(plans):
        return None
    here = [_positions(plan).here for plan in found]
    both = reduce(np.intersect1d, here)
    inside = [torch.from_numpy(np.searchsorted(own, both)) for own in here]
    positions = Positions.of(torch.from_numpy(both))

    def ready() -> ReadyDirectKL:
        parts = [_ready(plan) for plan in found]
        logits = [part.teacher_logits[which] for part, which in zip(parts, inside, strict=True)]
        return replace(parts[0], positions=positions, teacher_logits=averaged_logits(logits, weights))

    scores = None
    if found[0].column_scores is not None and len(positions):
        scores = column_maxima(ready().teacher_logits, len(found[0].column_scores))
    return replace(found[0], count=len(positions), ready=ready, column_scores=scores, positions=positions)


def _positions(plan: TermPlan) -> Positions:
    assert plan.positions is not None, "averaged logits are those of positions"
    return plan.positions


def _ready(plan: TermPlan) -> ReadyDirectKL:
    part = plan.ready()
    assert isinstance(part, ReadyDirectKL), "averaged logits are those of whole distributions"
    return part
