"""Measurements in processes of their own, so that none sees what another left in memory."""

import multiprocessing
from collections.abc import Callable
from typing import Any


def in_a_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What `function`, of a module, returns for `arguments` in a fresh process."""
    pool = multiprocessing.get_context("spawn").Pool(1)
    try:
        return pool.apply(function, arguments)
    finally:
        pool.close()  # and not terminated: a process that has a Prefect server stops it when it ends
        pool.join()
