"""`xtoken up` and `xtoken down`: a local Prefect server, work pool and worker with the deployments applied."""

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from flows.defaults import quickstart_config
from storage.files import write_atomic
from storage.lock import artifact_lock

POOL = "local"
DEFAULT_PORT = 4200
START_SECONDS = 120
STOP_SECONDS = 20
ANSWER_SECONDS = 30
PROJECT = Path(__file__).parents[1]
ENDED = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)


class ServerError(RuntimeError):
    """A server could not be started, stopped or reached; the message says what to do, or names its log."""


@dataclass(frozen=True)
class LocalServer:
    """The processes that `up` started."""

    port: int
    server_pid: int
    worker_pid: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def api_url(self) -> str:
        return f"{self.url}/api"


def state_folder() -> Path:
    """Where the server's state and logs are, one per user."""
    return Path(os.environ.get("XTOKEN_CACHE_DIR") or Path.home() / ".cache" / "xtoken") / "server"


def _state_file() -> Path:
    return state_folder() / "state.json"


def running_server() -> LocalServer | None:
    """The server that `up` started, if it answers."""
    server = _remembered()
    return server if server is not None and is_healthy(server) else None


def require_answer(api_url: str) -> None:
    """Make sure that a server is there; whatever it answers, and how it proves who it is, Prefect judges.

    Raises:
        ServerError: if nothing at `api_url`, the value of PREFECT_API_URL, answers.
    """
    try:
        urllib.request.urlopen(f"{api_url}/health", timeout=ANSWER_SECONDS).close()
    except urllib.error.HTTPError:
        return
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError):
            return
        raise ServerError(
            f"PREFECT_API_URL is {api_url}, but no server answers there ({reason}): run `xtoken up` or unset "
            "PREFECT_API_URL"
        ) from error


def up(port: int | None = None) -> LocalServer:
    """Start server and worker and apply the deployments of prefect.yaml; a running server is used as it is.

    Raises:
        ServerError: if the port is taken, a server runs on another one, the server does not answer, or the deployments
            are refused.
        ConfigError: if the quickstart's config, with which the deployments run by default, is wrong.
    """
    if not (PROJECT / "prefect.yaml").is_file():
        raise ServerError(f"there is no prefect.yaml in {PROJECT}: run `xtoken up` from a clone of the project")
    quickstart_config()
    with artifact_lock(state_folder()):
        server = running_server()
        if server is not None and port not in (None, server.port):
            raise ServerError(f"a server runs on port {server.port} already, not on {port}: run `xtoken down` first")
        return _with_worker(server or _start_server(port or DEFAULT_PORT))


def _with_worker(server: LocalServer) -> LocalServer:
    """Start the worker unless it runs, and apply the deployments."""
    if server.worker_pid is None or not _alive(server.worker_pid):
        _prefect(server, "work-pool", "create", POOL, "--type", "process", "--overwrite")
        server = LocalServer(
            server.port, server.server_pid, _start(server, "worker", "worker", "start", "--pool", POOL)
        )
        _remember(server)
    _prefect(server, "--no-prompt", "deploy", "--all")
    return server


def down() -> bool:
    """Stop worker and server, the worker first; False where nothing was running."""
    with artifact_lock(state_folder()):
        return _stop_all()


def _stop_all() -> bool:
    server = _remembered()
    pids = (server.worker_pid, server.server_pid) if server is not None else ()
    stopped = [_stop(pid) for pid in pids if pid is not None]
    _state_file().unlink(missing_ok=True)
    return any(stopped)


def _start_server(port: int) -> LocalServer:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise ServerError(f"port {port} is in use by another program: run `xtoken up --port {port + 1}`")
    server = LocalServer(port, -1)
    command = ("server", "start", "--host", "127.0.0.1", "--port", str(port))
    server = LocalServer(port, _start(server, "server", *command))
    _remember(server)
    deadline = time.monotonic() + START_SECONDS
    while not is_healthy(server):
        if time.monotonic() > deadline or not _alive(server.server_pid):
            _stop_all()
            raise ServerError(f"the Prefect server did not start: see {state_folder() / 'server.log'}")
        time.sleep(0.5)
    return server


def _environment(server: LocalServer) -> dict[str, str]:
    return {**os.environ, "PREFECT_API_URL": server.api_url}


def _start(server: LocalServer, name: str, *arguments: str) -> int:
    """Start a Prefect process of its own session, so that Ctrl-C in the terminal does not reach it."""
    state_folder().mkdir(parents=True, exist_ok=True)
    environment = _environment(server)
    if name == "server":
        del environment["PREFECT_API_URL"]
    with (state_folder() / f"{name}.log").open("ab") as log:
        command = [sys.executable, "-m", "prefect", *arguments]
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env=environment,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    return process.pid


def _prefect(server: LocalServer, *arguments: str) -> None:
    command = [sys.executable, "-m", "prefect", *arguments]
    result = subprocess.run(command, cwd=PROJECT, env=_environment(server), capture_output=True, text=True)
    if result.returncode:
        raise ServerError(f"`prefect {' '.join(arguments)}` failed: {(result.stderr or result.stdout).strip()[-800:]}")


def _remember(server: LocalServer) -> None:
    write_atomic(_state_file(), json.dumps(asdict(server)).encode())


def _remembered() -> LocalServer | None:
    try:
        return LocalServer(**json.loads(_state_file().read_text()))
    except (OSError, ValueError, TypeError):
        return None


def is_healthy(server: LocalServer) -> bool:
    try:
        with urllib.request.urlopen(f"{server.api_url}/health", timeout=3) as answer:
            return answer.status == 200
    except (OSError, urllib.error.URLError):
        return False


def _alive(pid: int) -> bool:
    return _process(pid) is not None


def _process(pid: int) -> psutil.Process | None:
    """The process, if it runs and is Prefect's: numbers are given out again, at the latest after a restart.

    One that has ended does not run, also where nobody has asked for its exit code yet.
    """
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        if process.status() not in ENDED and "prefect" in " ".join(process.cmdline()):
            return process
    return None


def _stop(pid: int) -> bool:
    """Ask a process group to end, then make it; False if it had ended already."""
    process = _process(pid)
    if process is None:
        return False
    for number in (signal.SIGTERM, signal.SIGKILL):
        if _ended(process, number):
            break
    return True


def _ended(leader: psutil.Process, number: signal.Signals) -> bool:
    """Signal a process group; whether its leader ended in time."""
    with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
        os.killpg(leader.pid, number)
    deadline = time.monotonic() + STOP_SECONDS
    while _runs(leader) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not _runs(leader)


def _runs(process: psutil.Process) -> bool:
    """Asked of its state alone: the command line is gone a moment before the process is."""
    try:
        return process.status() not in ENDED
    except psutil.NoSuchProcess:
        return False
