"""`xtoken up` and `xtoken down` with a real server; what can go wrong before one is started, without."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from flow_inputs import FlowInputs

from flows import server
from flows.config import ConfigError, RunConfig
from flows.defaults import quickstart_config, quickstart_parameters
from flows.server import LocalServer, ServerError, down, require_answer, running_server, state_folder, up

FLOWS = ("build-projection", "cache-teacher", "distill", "evaluate", "prepare")
NOBODY = 2**22 + 1  # above the highest process number


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """State, logs and Prefect's database in a folder of the test; nothing is left running."""
    monkeypatch.setenv("XTOKEN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    yield
    down()


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(url: str, body: Any) -> Any:
    """The answer to a POST of `body`, or to a GET where there is none."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def remembered(port: int, server_pid: int, worker_pid: int | None = None) -> None:
    state_folder().mkdir(parents=True, exist_ok=True)
    state = {"port": port, "server_pid": server_pid, "worker_pid": worker_pid}
    (state_folder() / "state.json").write_text(json.dumps(state))


def run_deployment(api_url: str, deployment: str, config: RunConfig) -> str:
    """Start a flow run as the UI does and return the state in which it ends."""
    body = {"parameters": {"config": config.model_dump(mode="json")}, "state": {"type": "SCHEDULED"}}
    run = ask(f"{api_url}/deployments/{deployment}/create_flow_run", body)["id"]
    deadline = time.monotonic() + 180
    while True:
        state = ask(f"{api_url}/flow_runs/{run}", None)["state"]
        if state["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
            return state["type"]
        assert time.monotonic() < deadline, f"the worker does not run the flow: {state}"
        time.sleep(0.5)


def form_of(deployment: Any) -> set[str]:
    """The fields that the UI's form shows below `config`."""
    schema = deployment["parameter_openapi_schema"]
    definition = schema["properties"]["config"]["$ref"].removeprefix("#/definitions/")
    return set(schema["definitions"][definition]["properties"])


def test_up_then_a_flow_then_up_again_then_down(free_port: int, inputs: FlowInputs, tmp_path: Path) -> None:
    started = up(free_port)
    assert started.port == free_port
    assert running_server() == started
    deployments = ask(f"{started.api_url}/deployments/filter", {})
    assert sorted(found["name"] for found in deployments) == sorted(FLOWS)
    assert {found["work_pool_name"] for found in deployments} == {server.POOL}
    here = [{"prefect.deployments.steps.set_working_directory": {"directory": str(server.PROJECT)}}]
    assert all(found["pull_steps"] == here for found in deployments)
    for found in deployments:
        assert form_of(found) == set(RunConfig.model_fields)
        assert found["parameters"] == quickstart_parameters()

    ids = {found["name"]: found["id"] for found in deployments}
    config = inputs.config(tmp_path / "workspace")
    assert run_deployment(started.api_url, ids["build-projection"], config) == "COMPLETED"
    assert list((tmp_path / "workspace" / "projections").glob("*/manifest.json"))

    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    body = {"state": {"type": "SCHEDULED", "state_details": {"scheduled_time": tomorrow}}}
    by_default = ask(f"{started.api_url}/deployments/{ids['distill']}/create_flow_run", body)
    assert RunConfig.model_validate(by_default["parameters"]["config"]) == quickstart_config()

    with pytest.raises(ServerError, match=f"runs on port {free_port} already, not on 1: run `xtoken down` first"):
        up(1)
    assert up() == up(free_port) == started
    assert len(ask(f"{started.api_url}/deployments/filter", {})) == len(FLOWS)
    assert runs(started.server_pid)
    assert started.worker_pid is not None
    assert runs(started.worker_pid)

    assert down()
    assert not runs(started.server_pid)
    assert not runs(started.worker_pid)
    assert running_server() is None
    assert not down()


class SlowStart:
    """Stands for the start of a server, which takes until `go_on` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.begun, self.go_on = threading.Event(), threading.Event()
        monkeypatch.setattr(server, "_start_server", self)
        monkeypatch.setattr(server, "_with_worker", lambda started: started)
        monkeypatch.setattr(server, "is_healthy", lambda started: True)

    def __call__(self, port: int) -> LocalServer:
        self.count += 1
        self.begun.set()
        assert self.go_on.wait(10)
        remembered(port, NOBODY)
        return LocalServer(port, NOBODY)


def test_two_ups_at_once_start_one_server(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    start = SlowStart(monkeypatch)
    with ThreadPoolExecutor(2) as threads:
        both = [threads.submit(up, free_port) for _ in range(2)]
        assert start.begun.wait(10)
        time.sleep(0.3)
        start.go_on.set()
        assert both[0].result() == both[1].result()
    assert start.count == 1


def test_down_waits_for_an_up_that_is_starting(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    start = SlowStart(monkeypatch)
    with ThreadPoolExecutor(2) as threads:
        threads.submit(up, free_port)
        assert start.begun.wait(10)
        stopping = threads.submit(down)
        time.sleep(0.3)
        assert not stopping.done()
        start.go_on.set()
        stopping.result()
    assert not (state_folder() / "state.json").exists()


def test_a_quickstart_config_that_is_wrong_is_told_before_anything_starts(
    free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong() -> RunConfig:
        raise ConfigError("quickstart.yaml has 1 problem(s)")

    monkeypatch.setattr(server, "quickstart_config", wrong)
    with pytest.raises(ConfigError, match="1 problem"):
        up(free_port)
    assert not state_folder().exists()


class TestRequireAnswer:
    @pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/api", "nonsense", "http://[/api", ""])
    def test_nobody_there(self, free_port: int, url: str) -> None:
        with pytest.raises(ServerError, match="run `xtoken up` or unset PREFECT_API_URL"):
            require_answer(url.format(port=free_port))

    @pytest.mark.parametrize("status", [200, 401, 503])
    def test_any_answer_will_do(self, free_port: int, status: int) -> None:
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.end_headers()

        with HTTPServer(("127.0.0.1", free_port), Answer) as answering:
            thread = threading.Thread(target=answering.handle_request)
            thread.start()
            require_answer(f"http://127.0.0.1:{free_port}/api")
            thread.join()


def test_down_where_nothing_was_started() -> None:
    assert not down()


def test_a_port_that_is_taken(free_port: int) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port))
        taken.listen()
        with pytest.raises(ServerError, match=f"port {free_port} is in use .*: run `xtoken up --port {free_port + 1}`"):
            up(free_port)
    assert not (state_folder() / "state.json").exists()


def test_a_project_that_is_not_a_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "PROJECT", tmp_path)
    with pytest.raises(ServerError, match=f"there is no prefect.yaml in {tmp_path}: run `xtoken up` from a clone"):
        up()


def test_a_server_that_dies_at_once_names_its_log(
    free_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.sys, "executable", "/bin/false")
    with pytest.raises(ServerError, match=f"did not start: see {state_folder()}/server.log"):
        up(free_port)
    assert running_server() is None
    assert not (state_folder() / "state.json").exists()


@pytest.mark.parametrize("state", ["", "{", "[]", '{"port": 1}', '{"port": 9, "server_pid": 1, "more": 2}'])
def test_a_state_file_that_cannot_be_read_is_no_server(state: str) -> None:
    state_folder().mkdir(parents=True)
    (state_folder() / "state.json").write_text(state)
    assert running_server() is None
    assert not down()
    assert not (state_folder() / "state.json").exists()


def test_processes_that_ended_by_themselves(free_port: int) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    remembered(free_port, ended.pid, ended.pid)
    assert running_server() is None
    assert not down()


def test_a_process_of_somebody_else_is_left_alone(free_port: int) -> None:
    """After a restart of the machine the numbers in the state file may belong to other programs."""
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    try:
        remembered(free_port, other.pid)
        down()
        assert other.poll() is None
    finally:
        os.killpg(other.pid, signal.SIGKILL)
        other.wait()
