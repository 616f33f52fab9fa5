"""The measurements of a step, as its record has them: by the name of each loss."""

from collections.abc import Sequence
from typing import Any

from trainer.loss_weights import LossOfStep, LossWeights
from trainer.measured import Measured
from xtoken_core.losses.sums import Measure

CE = "ce"  # cross-entropy among the terms


def step_metrics(
    names: Sequence[str], measured: Measured, losses: Sequence[LossOfStep], weights: LossWeights
) -> dict[str, Any]:
    """Fields of `Metrics`. names: of the losses, whose terms come behind cross-entropy's."""
    by_loss = {field: _entries(names, measured, field) for field in ("kd", *Measure)}
    shares, known = measured.gradient_shares(), list(zip(names, losses, strict=True))
    return by_loss | {
        "ce": measured.value(0, "kd"),
        "accuracy": measured.value(0, Measure.TOP1_AGREEMENT),
        "exact_share": {name: loss.exact_share for name, loss in known if loss.exact_share is not None},
        "items": {name: loss.count for (name, loss), factor in zip(known, weights.factors, strict=True) if factor},
        "weight": dict(zip(names, weights.weights.tolist(), strict=True)) if len(names) > 1 else {},
        "selected_teacher": None if weights.selected is None else names[weights.selected],
        "gradient_share": {} if shares is None else dict(zip((CE, *names), shares.tolist(), strict=True)),
    }


def _entries(names: Sequence[str], measured: Measured, field: str) -> dict[str, float]:
    values = ((name, measured.value(1 + index, field)) for index, name in enumerate(names))
    return {name: value for name, value in values if value is not None}
