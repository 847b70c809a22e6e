"""Servers: `partition serve` in a process, or the application in a thread; both over HTTP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette

__all__ = ["Served", "process_server", "thread_server"]

ROOT = Path(__file__).parents[2]
_WAIT = 60


class Served:
    """A process that serves.

    Attributes:
        url: without a path.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log
        self.url: str = self._wait_for("listening")["url"]

    def lines(self) -> list[dict[str, Any]]:
        """What it has logged."""
        whole = self._log.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def end(self) -> int:
        """Tell it to end; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_WAIT)

    def _wait_for(self, message: str) -> dict[str, Any]:
        end = time.monotonic() + _WAIT
        while time.monotonic() < end and self.process.poll() is None:
            for line in self.lines():
                if line["message"] == message:
                    return line
            time.sleep(0.02)
        raise AssertionError(self._log.read_text())


@contextmanager
def process_server(
    folder: Path, *arguments: str, python: str = sys.executable, **variables: str
) -> Iterator[Served]:
    """``partition serve ARGUMENTS`` on a free port, with variables of the environment."""
    log = folder / "server.log"
    command = [python, "-c", "from partitioner.cli import main; main()", "serve"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, *arguments, "--port", "0"], stderr=file, env=environment, cwd=folder
        )
    try:
        yield Served(process, log)
    finally:
        process.kill()
        process.wait()


@contextmanager
def thread_server(app: Starlette) -> Iterator[str]:
    """The application behind a socket of this process; gives the URL."""
    config = uvicorn.Config(app, port=0, log_config=None, access_log=False, lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.005)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
