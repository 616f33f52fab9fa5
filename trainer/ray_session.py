"""The Ray session of this process: what trains students and, where it is asked to, prepares data."""

import logging
import os

OBJECT_STORE_BYTES = 256 << 20  # workers read files; nothing large goes through Ray


def ensure_ray() -> None:
    """Use the Ray session of this process, else join the cluster that RAY_ADDRESS names, else start one here."""
    import ray

    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    if os.environ.get("RAY_ADDRESS"):
        ray.init(logging_level=logging.WARNING)
        return
    # Tokens protect a cluster that others can reach; a session for this process needs none.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    # Progress comes through the metrics file and errors as exceptions; what Ray prints beside them is in its own logs.
    ray.init(
        address="local", logging_level=logging.WARNING, log_to_driver=False, object_store_memory=OBJECT_STORE_BYTES
    )
