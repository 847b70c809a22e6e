"""A line and a count for each request: an ASGI middleware around everything."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from partitioner.serve.failures import CLIENT_CLOSED
from partitioner.serve.metrics import Metrics
from partitioner.serve.state import ServerState

__all__ = ["AccessLog", "JsonFormatter"]

_LOG = logging.getLogger("partitioner.access")


class JsonFormatter(logging.Formatter):
    """Records as lines of JSON; what ``extra={"fields": ...}`` holds stands beside the rest."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": round(record.created, 6),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


class AccessLog:
    """Counts requests and writes a line for each; asks clients to go when the server is to end.

    Args:
        state, metrics: of the application.
    """

    def __init__(self, app: ASGIApp, state: ServerState, metrics: Metrics) -> None:
        self._app = app
        self._state = state
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status, sent, whole = time.perf_counter(), 500, 0, False

        async def heard() -> Message:
            nonlocal status
            message = await receive()
            if message["type"] == "http.disconnect" and not whole:
                status = CLIENT_CLOSED
            return message

        async def watched(message: Message) -> None:
            nonlocal status, sent, whole
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._state.draining:
                    # A connection that is kept would be cut when the server stops listening.
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
            else:
                sent += len(message.get("body", b""))
                whole = not message.get("more_body", False)
            await send(message)

        try:
            await self._app(scope, heard, watched)
        finally:
            self._done(scope, status, sent, time.perf_counter() - start)

    def _done(self, scope: Scope, status: int, sent: int, seconds: float) -> None:
        endpoint = getattr(scope.get("endpoint"), "__name__", "none")
        model = scope.get("path_params", {}).get("name", "")
        model = model if model in self._state.services else ""
        self._metrics.count(endpoint, model, status, seconds)
        if not _LOG.isEnabledFor(logging.INFO):
            return
        client = scope.get("client")
        fields = {
            "client": client[0] if client else None,
            "method": scope["method"],
            "path": scope["path"],
            "model": model or None,
            "status": status,
            "bytes": sent,
            "seconds": round(seconds, 6),
        }
        _LOG.info("request", extra={"fields": fields})
