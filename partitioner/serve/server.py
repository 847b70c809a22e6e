"""One process that serves an application by uvicorn until it is told to end."""

from __future__ import annotations

import asyncio
import logging
import logging.config
import os
import socket
import time
from dataclasses import dataclass
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette

from partitioner.errors import UsageError
from partitioner.serve.access import JsonFormatter
from partitioner.serve.options import LONGEST
from partitioner.serve.state import ServerState

__all__ = ["ListenOptions", "log_as_json", "run"]

#: Seconds that clients have to close their side of a connection.
_GOODBYE = 0.5

_LOG = logging.getLogger("partitioner.serve")


@dataclass(frozen=True)
class ListenOptions:
    """Where a server listens, and how it ends.

    Args:
        host: an address of this machine; ``0.0.0.0`` for all of them.
        port: 0 for a free one, which the log names.
        ssl_certfile, ssl_keyfile: of TLS, in PEM form; HTTP without.
        ssl_keyfile_password: of the key.
        drain_delay: seconds between saying that it is not ready and ceasing to listen, in which
            who balances load hears of it.
        drain_limit: seconds in which accepted requests are served after that.

    Raises:
        UsageError: seconds that cannot be meant; a key without its certificate.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    ssl_certfile: str | os.PathLike[str] | None = None
    ssl_keyfile: str | os.PathLike[str] | None = None
    ssl_keyfile_password: str | None = None
    drain_delay: float = 1.0
    drain_limit: int = 30

    def __post_init__(self) -> None:
        if not 0 <= self.drain_delay <= LONGEST:  # NaN would never be over
            raise UsageError(
                f"drain_delay must be from 0 to {LONGEST} seconds, not {self.drain_delay}"
            )
        if not 1 <= self.drain_limit <= LONGEST:
            raise UsageError(
                f"drain_limit must be from 1 to {LONGEST} seconds, not {self.drain_limit}",
                advice="a server needs a second at least to end",
            )
        if self.ssl_keyfile and not self.ssl_certfile:
            raise UsageError("a TLS key is given without its certificate")


def run(app: Starlette, options: ListenOptions) -> None:
    """Serve until SIGTERM or SIGINT; a second one ends it at once.

    The first makes ``/v2/health/ready`` say no, and answers close their connections. After
    ``drain_delay`` nothing new is accepted, and what was is served.

    Args:
        app: of :func:`partitioner.serve.app.create_app`.

    Raises:
        UsageError: it cannot listen there, or the TLS files cannot be used.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=options.drain_limit,
        ssl_certfile=options.ssl_certfile,
        ssl_keyfile=options.ssl_keyfile,
        ssl_keyfile_password=options.ssl_keyfile_password,
    )
    try:
        config.load()
    except OSError as error:  # ssl.SSLError among them
        raise UsageError(
            f"the TLS certificate or key cannot be used: {error}", where=str(options.ssl_certfile)
        ) from error
    listening = _listen(options)
    scheme = "https" if options.ssl_certfile else "http"
    host, port = listening.getsockname()[:2]
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    server = _Server(config, app.state.server, options.drain_delay, url)
    server.run(sockets=[listening])


def log_as_json(level: str = "INFO") -> None:
    """Let all logs of the process be lines of JSON on standard error."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"json": {"()": JsonFormatter}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
            "root": {"level": level, "handlers": ["stderr"]},
            "loggers": {"uvicorn": {"level": "WARNING"}},
        }
    )


def _listen(options: ListenOptions) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        return socket.create_server((options.host, options.port), family=family)
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"cannot listen on {options.host}, port {options.port}: {error}",
            advice="choose another --port or --host",
        ) from error


class _Server(uvicorn.Server):
    """Says that it is to end before it ceases to listen, and ends in peace.

    uvicorn's own raises the signal again when it is done, so that orderly ends look like kills.
    """

    def __init__(
        self, config: uvicorn.Config, state: ServerState, drain_delay: float, url: str
    ) -> None:
        super().__init__(config)
        self._state = state
        self._delay = drain_delay
        self._url = url
        self._end: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        fields = {"url": self._url, "models": list(self._state.services)}
        _LOG.info("listening", extra={"fields": fields})

    async def on_tick(self, counter: int) -> bool:
        if self._end is not None and time.monotonic() >= self._end:
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        cutting = asyncio.create_task(self._cut_answered())
        await super().shutdown(sockets)
        cutting.cancel()

    async def _cut_answered(self) -> None:
        """Cut connections on which nothing is left to say.

        Under TLS closing one takes until its client says goodbye, too, or half a minute.
        """
        while True:
            await asyncio.sleep(_GOODBYE)
            for connection in () if self.server_state.tasks else (*self.server_state.connections,):
                transport: Any = connection.transport
                if not transport.get_write_buffer_size():
                    transport.abort()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._end is not None:
            self.should_exit = self.force_exit = True
            return
        self._state.draining = True
        self._end = time.monotonic() + self._delay
        fields = {"active": self._state.active}
        _LOG.info("ending: accepted requests are served", extra={"fields": fields})
