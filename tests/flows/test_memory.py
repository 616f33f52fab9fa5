import platform
import resource
from pathlib import Path

import numpy as np
import pytest

from flows.memory import release_free_memory

BLOCKS, NUMBERS = 3000, 10_000  # 80 kB each: the C library does not map such by themselves


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="others give memory back by themselves, or cannot be told"
)
def test_freed_arrays_below_one_that_is_held_go_back_to_the_system() -> None:
    blocks = [np.ones(NUMBERS) for _ in range(BLOCKS)]
    held, full = blocks[-1], resident_bytes()
    del blocks
    release_free_memory()
    assert resident_bytes() < full - BLOCKS * NUMBERS * 8 // 2
    assert held.all()
