"""The environment of processes that run flows: set before Prefect is imported, the user's own values kept."""

import os
import subprocess
import sys

import pytest
from flow_inputs import ROOT

from flows.environment import set_environment


def test_a_users_own_values_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"DO_NOT_TRACK": "0"})
    set_environment()
    assert os.environ["DO_NOT_TRACK"] == "0"
    assert os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"


@pytest.mark.parametrize("module", ["flows.cli", "benchmarks.__main__"])
def test_it_is_set_before_prefect_or_ray_is_imported(module: str) -> None:
    code = f"import sys, {module}; sys.exit(bool({{'prefect', 'ray'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_benchmarks_wait_for_a_slow_server_as_commands_do() -> None:
    name = "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"
    code = f"import os, benchmarks.__main__; print(os.environ.get({name!r}))"
    environment = {key: value for key, value in os.environ.items() if key != name}
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ran.stdout.strip() == "180"
