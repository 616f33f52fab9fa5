"""The server of one command: there while the process is, gone with it, however it ends."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from flow_inputs import ROOT
from prefect.settings import PREFECT_HOME, temporary_settings

from flows import temporary_server
from flows.server import ServerError

END_SECONDS = 60  # most that a server may take to end

# Says what it started, and ends when it is told to.
_USER = """
import json, sys
from dataclasses import asdict
from flows.server import is_healthy
from flows.temporary_server import start_temporary_server
server = start_temporary_server()
print(json.dumps(server.server_pid if is_healthy(server) else None), flush=True)
sys.stdin.readline()
"""


@dataclass(frozen=True)
class User:
    """A process with a temporary server."""

    process: "subprocess.Popen[str]"
    server: psutil.Process


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    environment.pop("PREFECT_API_URL", None)
    command = [sys.executable, "-c", _USER]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout is not None
        server = psutil.Process(json.loads(process.stdout.readline()))
        yield User(process, server)
        process.kill()


def test_it_ends_with_a_process_that_is_killed(user: User) -> None:
    os.kill(user.process.pid, signal.SIGKILL)
    user.server.wait(END_SECONDS)


def test_it_ends_with_a_process_that_ends(user: User) -> None:
    user.process.communicate("\n", END_SECONDS)
    assert user.process.returncode == 0
    assert not user.server.is_running()


def test_several_may_start_at_once_where_prefect_was_never_used(tmp_path: Path) -> None:
    """Both bring the same new database up to date."""
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    environment.pop("PREFECT_API_URL", None)
    command = [sys.executable, "-c", _USER]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    users = [subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes) for _ in range(3)]  # type: ignore[call-overload]
    said = [user.communicate("\n", 300) for user in users]
    assert [user.returncode for user in users] == [0, 0, 0], said


def test_a_folder_of_prefects_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        temporary_settings({PREFECT_HOME: tmp_path / "file" / "home"}),
        pytest.raises(ServerError, match=r"file/home cannot be written .*: make room .* or set PREFECT_HOME"),
    ):
        temporary_server.start_temporary_server()


def test_one_that_fails_says_why_and_nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nowhere = f"sqlite+aiosqlite:///{tmp_path}/nowhere/at/all.db"
    monkeypatch.setitem(temporary_server._ENVIRONMENT, "PREFECT_API_DATABASE_CONNECTION_URL", nowhere)
    with pytest.raises(ServerError, match=r"unable to open database file") as caught:
        temporary_server.start_temporary_server()
    assert "Fatal Python error" not in str(caught.value)


def test_one_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary_server, "_MODULE", "no_such_module")
    with pytest.raises(ServerError, match=r"did not start: .*No module named no_such_module; mend that, or run"):
        temporary_server.start_temporary_server()
