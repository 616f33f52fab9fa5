"""How long a call takes and how much memory it needs for a while, on a CPU under Linux or on a CUDA device."""

import ctypes
import time
from collections.abc import Callable
from pathlib import Path

import torch

_SELF = Path("/proc/self")


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Of one call."""
    if device.type == "cuda":
        return _device_seconds(call)
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _device_seconds(call: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000


def peak_extra_bytes(call: Callable[[], object], device: torch.device) -> int:
    """How far memory rises above what was in use before the call, in its course."""
    if device.type == "cuda":
        return _device_peak(call)
    ctypes.CDLL(None).malloc_trim(0)  # freed memory that malloc keeps would be used again without being seen
    (_SELF / "clear_refs").write_text("5")  # resets VmHWM, the peak
    before = _kib("VmRSS")
    call()
    return (_kib("VmHWM") - before) * 1024


def _device_peak(call: Callable[[], object]) -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return torch.cuda.max_memory_allocated() - before


def _kib(field: str) -> int:
    lines = (_SELF / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
