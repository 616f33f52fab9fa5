"""Time and memory of the fast losses beside their reference forms and beside cross-entropy: JSON on stdout.

The two vocabularies are real, by default Llama-3's for the student and Qwen's for the teacher; logits and hidden states
are made up. A CPU computes in float32 with two threads, a CUDA device, if there is one, in bfloat16. Everything is
measured with its gradients, in a process of its own. Times are the best of a few rounds in which all forms take turns,
so that a busy machine troubles all alike; memory is the peak beyond the inputs and the returned gradients.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.loss_cases import LOSSES
from benchmarks.loss_tasks import FUSED, Task, device, errors, extra_memory, prepare, times
from benchmarks.machine import machine
from benchmarks.processes import in_a_process
from benchmarks.projection import tokenizer_folders

_CPU_POSITIONS, _DEVICE_POSITIONS = 1024, 4096
_MIB = 2**20


def run(losses: list[str] | None, positions: int | None, student: str | None, teacher: str | None) -> None:
    """Measure `losses`, or all; tokenizers are folders."""
    usual = _CPU_POSITIONS if device().type == "cpu" else _DEVICE_POSITIONS
    with tempfile.TemporaryDirectory(prefix="xtoken-benchmark-") as name:
        folders = tokenizer_folders(Path(name), student, teacher)
        result = measure(losses or list(LOSSES), positions or usual, folders, Path(name) / "pair.pt")
    json.dump(result, sys.stdout, indent=1)


def measure(losses: list[str], positions: int, folders: list[str], pair: Path) -> dict[str, Any]:
    """What is printed. folders: of the student's and of the teacher's tokenizer; pair: a file to write."""
    in_a_process(prepare, folders, pair, positions)
    result: dict[str, Any] = {"machine": machine(), "device": device().type, "positions": positions}
    for loss in losses:
        result[loss] = _beside_the_reference(Task(pair, loss, positions))
        if loss == "prefix_kl":
            result[loss] |= _beside_fused_cross_entropy(pair, positions)
        print(loss, json.dumps(result[loss]), file=sys.stderr, flush=True)  # a full run takes many minutes
    return result


def _beside_the_reference(task: Task) -> dict[str, Any]:
    taken = in_a_process(times, task, ("fast", "reference", "cross_entropy"))
    extra = {form: in_a_process(extra_memory, task, form) for form in ("fast", "reference")}
    error = in_a_process(errors, task)
    return {
        "time_ratio": round(taken["fast"] / taken["reference"], 3),
        "memory_ratio": round(extra["fast"] / extra["reference"], 3),
        "time_over_ce": round(taken["fast"] / taken["cross_entropy"], 2),
        **{f"{form}_s": round(seconds, 4) for form, seconds in taken.items()},
        **{f"{form}_extra_mib": round(size / _MIB, 1) for form, size in extra.items()},
        "max_loss_error": error.loss,
        "max_grad_error": error.gradient,
    }


def _beside_fused_cross_entropy(pair: Path, positions: int) -> dict[str, Any]:
    taken = in_a_process(times, Task(pair, FUSED, positions), ("fast", "cross_entropy"))
    sizes = (positions // 2, positions)
    extra = {size: in_a_process(extra_memory, Task(pair, FUSED, size), "fast") for size in sizes}
    return {
        "time_over_fused_ce": round(taken["fast"] / taken["cross_entropy"], 3),
        "from_hidden_s": round(taken["fast"], 4),
        "fused_ce_s": round(taken["cross_entropy"], 4),
        "from_hidden_extra_mib": {size: round(size_of / _MIB, 1) for size, size_of in extra.items()},
    }
