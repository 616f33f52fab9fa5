"""What a deployment runs when it is given no parameters: the quickstart."""

import functools
from pathlib import Path
from typing import Any

from flows.config import RunConfig
from flows.config_files import load_config

QUICKSTART = Path(__file__).parents[1] / "configs" / "quickstart.yaml"


@functools.cache
def quickstart_config() -> RunConfig:
    """The quickstart's configuration; its relative paths are meant from the project's folder."""
    return load_config(QUICKSTART)


def quickstart_parameters() -> dict[str, Any]:
    """The parameters of every deployment, a step of prefect.yaml: read when the deployments are applied, not before."""
    return {"config": quickstart_config().model_dump(mode="json")}
