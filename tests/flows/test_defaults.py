"""The quickstart's config is what deployments run by default, and nothing else depends on it."""

import subprocess
import sys
from typing import Any

import pytest
from flow_inputs import ROOT
from prefect.utilities.callables import parameter_schema

from flows.build_projection import build_projection
from flows.cache_teacher import cache_teacher
from flows.config import RunConfig
from flows.defaults import quickstart_config, quickstart_parameters
from flows.distill import distill
from flows.evaluate import evaluate
from flows.prepare import prepare

# Imports every command's flow in a project whose configs cannot be read.
_WITHOUT_CONFIGS = """
import flows.config
import flows.config_files

def unreadable(*arguments):
    raise flows.config.ConfigError("there are no configs here")

flows.config_files.load_config = unreadable
from flows import build_projection, cache_teacher, distill, evaluate, prepare, server
"""


def test_a_missing_quickstart_config_breaks_no_other_command() -> None:
    ran = subprocess.run([sys.executable, "-c", _WITHOUT_CONFIGS], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("flow", [build_projection, cache_teacher, distill, evaluate, prepare])
def test_the_form_shows_the_configs_fields(flow: Any) -> None:
    schema = parameter_schema(flow)
    assert schema.required == ["config"]
    assert schema.properties["config"]["$ref"] == "#/definitions/RunConfig"
    assert set(schema.definitions["RunConfig"]["properties"]) == set(RunConfig.model_fields)


def test_the_parameters_are_the_config_as_json() -> None:
    assert RunConfig.model_validate(quickstart_parameters()["config"]) == quickstart_config()
