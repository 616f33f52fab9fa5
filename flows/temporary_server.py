"""A Prefect server for one command, where none runs: it ends with the command, however that ends.

Prefect would start one by itself, but that one outlives a command that is killed, and writes tracebacks of its own into
the terminal when it is stopped while it stores what a failed flow told it.
"""

import atexit
import os
import socket
import subprocess
import sys
import time
from tempfile import TemporaryFile
from typing import IO

from filelock import FileLock
from prefect.settings import PREFECT_HOME

from flows.server import LocalServer, ServerError, is_healthy
from flows.server_process import STOP_SECONDS

START_SECONDS = 180  # a slow or busy machine
_MODULE = "flows.server_process"
_SHOWN_CHARACTERS = 800
_NEEDED_BYTES = 4 << 20  # a new database takes 1.5 MB, and what a flow tells it some more
# As Prefect's own: no UI, no services that only a lasting server needs.
_ENVIRONMENT = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}

_Process = subprocess.Popen[bytes]


def start_temporary_server() -> LocalServer:
    """A server of its own port with the user's Prefect database, until the end of this process.

    Not only until the end of a flow: what Prefect logs in the background is sent when the process ends.

    Raises:
        ServerError: if Prefect's folder cannot be written, or the server does not start; the message has the end of
            what it wrote.
    """
    with TemporaryFile() as log, _one_at_a_time():
        with socket.create_server(("127.0.0.1", 0)) as listening:
            process = _start(listening, log)
            server = LocalServer(listening.getsockname()[1], process.pid)
        atexit.register(_stop, process)
        _await(server, process, log)
    return server


def _one_at_a_time() -> FileLock:
    """Two servers that start together would both bring a fresh database up to date, and one would fail."""
    home = PREFECT_HOME.value()
    try:
        home.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=home) as file:
            file.write(bytes(_NEEDED_BYTES))
    except OSError as error:
        raise ServerError(
            f"Prefect's folder {home} cannot be written ({error}): make room or make it writable, or set PREFECT_HOME "
            "to another folder"
        ) from error
    return FileLock(home / ".xtoken-server.lock")


def _start(listening: socket.socket, log: IO[bytes]) -> _Process:
    """A process of its own session, so that Ctrl-C in the terminal does not end it before the flow."""
    return subprocess.Popen(
        [sys.executable, "-m", _MODULE, str(listening.fileno())],
        pass_fds=[listening.fileno()],
        env={**os.environ, **_ENVIRONMENT},
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def _await(server: LocalServer, process: _Process, log: IO[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not is_healthy(server):
        if process.poll() is not None or time.monotonic() > deadline:
            log.seek(0)
            said = log.read().decode(errors="replace").strip()[-_SHOWN_CHARACTERS:]
            raise ServerError(f"the temporary Prefect server did not start: {said}; mend that, or run `xtoken up`")
        time.sleep(0.1)


def _stop(process: _Process) -> None:
    assert process.stdin is not None
    process.stdin.close()  # the process sees what it would see if this one had ended
    try:
        process.wait(2 * STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
