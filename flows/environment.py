"""Environment variables of every process that runs flows."""

import os

_DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "flows,storage,trainer,xtoken_core",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    # Of benchmarks: a slow or busy machine needs more than the 20 s default to bring Prefect's own server up.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
}


def set_environment() -> None:
    """Settings that must be in place before Prefect or Ray is imported; a user's own values win."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
