"""The process of a temporary Prefect server: `python -m flows.server_process FD`, a listening socket.

Its standard input is a pipe from the process that started it. The pipe ends when that process does, also by SIGKILL.
"""

import os
import signal
import socket
import sys
import threading
import time

import uvicorn

STOP_SECONDS = 10


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # a buffered read would hold a lock that Python's own end waits for
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os._exit(1)


def _serve(listening: socket.socket) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    config = uvicorn.Config(
        "prefect.server.api.server:create_app",
        factory=True,
        log_level="error",
        lifespan="on",
        timeout_graceful_shutdown=STOP_SECONDS // 2,
    )
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
