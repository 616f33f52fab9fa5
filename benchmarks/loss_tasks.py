"""What is measured of a loss, each in a process of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from benchmarks.loss_cases import LOSSES, Case, Scene, prefix_kl_from_hidden
from benchmarks.loss_gauges import peak_extra_bytes, seconds
from benchmarks.loss_inputs import Pair

FormName = Literal["fast", "reference", "cross_entropy"]
FUSED = "prefix_kl from hidden states"

_CASES = LOSSES | {FUSED: prefix_kl_from_hidden}
_THREADS = 2
_ROUNDS = 3
_WARM_UP = 8  # positions


@dataclass(frozen=True)
class Task:
    """pair: the file with a `Pair`. loss: one of `LOSSES`, or `FUSED`."""

    pair: Path
    loss: str
    positions: int


@dataclass(frozen=True)
class Errors:
    """Of the fast form, relative to the reference's loss and to the largest number in its gradient."""

    loss: float
    gradient: float


def device() -> torch.device:
    """Where losses are measured."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def prepare(folders: list[str], path: Path, positions: int) -> None:
    """Save the pair of two tokenizers."""
    torch.manual_seed(0)
    torch.save(Pair.of(folders, positions), path)


def extra_memory(task: Task, form: FormName) -> int:
    """Bytes beyond the inputs and the returned gradients, in the first call of a process but a tiny one."""
    _loss_with_gradients(_case(task, min(_WARM_UP, task.positions)), form)
    case = _case(task, task.positions)
    peak = peak_extra_bytes(lambda: _loss_with_gradients(case, form), device())
    return peak - sum(tensor.nbytes for tensor in case.inputs)


def errors(task: Task) -> Errors:
    """Of the fast form on the same inputs."""
    case = _case(task, task.positions)
    loss, *gradients = _loss_with_gradients(case, "fast")
    expected, *expected_gradients = _loss_with_gradients(case, "reference")
    return Errors(_error(loss, expected), max(map(_error, gradients, expected_gradients)))


def times(task: Task, forms: Sequence[FormName]) -> dict[FormName, float]:
    """Seconds, the best of a few rounds in which all forms take turns, after one that warms up."""
    case = _case(task, task.positions)
    rounds = [_round(case, forms) for _ in range(1 + _ROUNDS)]
    return {form: min(taken[form] for taken in rounds[1:]) for form in forms}


def _round(case: Case, forms: Sequence[FormName]) -> dict[FormName, float]:
    return {form: seconds(partial(_loss_with_gradients, case, form), device()) for form in forms}


def _case(task: Task, positions: int) -> Case:
    torch.set_num_threads(_THREADS)
    torch.manual_seed(0)
    pair: Pair = torch.load(task.pair, weights_only=False)
    return _CASES[task.loss](Scene(pair, positions, device()))


def _loss_with_gradients(case: Case, form: FormName) -> list[torch.Tensor]:
    loss: torch.Tensor = getattr(case, form)()
    return [loss.detach(), *torch.autograd.grad(loss, case.inputs)]


def _error(ours: torch.Tensor, expected: torch.Tensor) -> float:
    return float((ours - expected).abs().max() / expected.abs().max())
