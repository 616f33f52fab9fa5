"""The quickstart in a fresh workspace: seconds by stage and the outcome, as JSON on stdout."""

import json
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import machine
from flows.defaults import quickstart_config
from flows.distill import distill
from flows.quickstart.inputs import ensure_inputs


def run() -> None:
    """Make the inputs if they are missing (timed apart), run the job once from nothing and print the times."""
    start = time.perf_counter()
    ensure_inputs()
    inputs = time.perf_counter() - start
    with tempfile.TemporaryDirectory(prefix="xtoken-benchmark-") as workspace:
        start = time.perf_counter()
        summary = distill(quickstart_config().model_copy(update={"workspace": Path(workspace)}))
        total = time.perf_counter() - start
    result = {
        "machine": machine(),
        "seconds": {"inputs": round(inputs, 1), **summary.seconds, "total": round(total, 1)},
        "ce_bits_per_byte": summary.ce_bits_per_byte,
        "distilled_bits_per_byte": summary.distilled_bits_per_byte,
        "teacher_bits_per_byte": summary.teacher_bits_per_byte,
    }
    json.dump(result, sys.stdout, indent=1)
