"""Recorded values of losses against ours: every case in a folder, as JSON on stdout.

`scenarios` and `failed` are counts. A scenario fails where its loss or a metric is off by more than 1e-5 + 1e-4 of the
recorded value, its gradient by more than 1e-6 + 1e-3 of it anywhere, or a recorded metric is not ours. `max_loss_error`
is the largest |ours - recorded| / |recorded| of a loss, `max_grad_error` the largest difference in a gradient divided
by the largest number in the recorded gradient of that scenario. `failures` says what differed. A largest error
is null where some value is not finite.
"""

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.golden_losses import Outcome, run_scenario
from benchmarks.golden_scenarios import Case, GoldenError, Scenario, load_cases
from xtoken_core.losses.form import Impl

_SMALLEST = torch.finfo(torch.float32).tiny  # in place of a recorded zero


@dataclass(frozen=True)
class Comparison:
    """One scenario. `differing`: what is outside the tolerances."""

    case: str
    scenario: int
    loss_error: float
    grad_error: float
    differing: tuple[str, ...]


def run(folder: Path, impl: Impl) -> None:
    """Print the comparison of all cases in `folder`.

    Raises:
        GoldenError: for a folder or file that is not in the format.
    """
    found = [compare(case, scenario, impl) for case in load_cases(folder) for scenario in case.scenarios]
    failures = [
        {"case": one.case, "scenario": one.scenario, "differing": one.differing} for one in found if one.differing
    ]
    result = {
        "scenarios": len(found),
        "failed": len(failures),
        "max_loss_error": _largest([one.loss_error for one in found]),
        "max_grad_error": _largest([one.grad_error for one in found]),
        "failures": failures,
    }
    json.dump(result, sys.stdout, indent=1)


def _largest(errors: list[float]) -> float | None:
    return max(errors) if errors and all(map(math.isfinite, errors)) else None


def compare(case: Case, scenario: Scenario, impl: Impl) -> Comparison:
    """Ours against what was recorded.

    Raises:
        GoldenError: for tensors that do not fit together.
    """
    try:
        ours = run_scenario(case, scenario, impl)
    except (ValueError, RuntimeError, IndexError) as error:  # the last two are torch's, for shapes that do not fit
        raise GoldenError(f"{case.name}, scenario {scenario.scenario}: {error}") from error
    recorded = case.tensors[f"grad_{scenario.scenario}"]
    scale = max(float(recorded.abs().max()), _SMALLEST)
    return Comparison(
        case.name,
        scenario.scenario,
        loss_error=abs(ours.loss - scenario.loss) / max(abs(scenario.loss), _SMALLEST),
        grad_error=float((ours.gradient - recorded).abs().max()) / scale,
        differing=tuple(_differing(ours, scenario, recorded)),
    )


def _differing(ours: Outcome, scenario: Scenario, gradient: torch.Tensor) -> Iterator[str]:
    if not _close(ours.loss, scenario.loss):
        yield f"loss: {ours.loss}, recorded {scenario.loss}"
    for name, recorded in scenario.metrics.items():
        if name not in ours.metrics:
            yield f"{name}: not ours, recorded {recorded}"
        elif not _close(ours.metrics[name], recorded):
            yield f"{name}: {ours.metrics[name]}, recorded {recorded}"
    if not torch.allclose(ours.gradient, gradient, rtol=1e-3, atol=1e-6):
        yield f"gradient: off by up to {float((ours.gradient - gradient).abs().max())}"


def _close(ours: float, recorded: float) -> bool:
    return math.isfinite(ours) and abs(ours - recorded) <= 1e-5 + 1e-4 * abs(recorded)
