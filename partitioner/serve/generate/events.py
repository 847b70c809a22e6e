"""Progress as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, suppress
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from partitioner.errors import PartitionerError
from partitioner.runtime.events import Callback, StepEvent
from partitioner.serve.disconnects import unless_gone
from partitioner.serve.failures import status_of, text_of
from partitioner.serve.jsontext import dumps

__all__ = ["EventStream"]

_LOG = logging.getLogger("partitioner.serve")

#: Serves a request with a callback for its steps; gives the document of the last event.
Work = Callable[[Callback], Coroutine[Any, Any, dict[str, Any]]]


class EventStream(Response):
    """A request's steps while it runs: events ``step``, at last ``result`` or ``error``.

    Until the first step a failure has a status of its own, as of requests without progress.

    Args:
        admitted: held while it runs, not while the client reads.
        work: runs the request.
    """

    def __init__(self, admitted: AbstractContextManager[None], work: Work) -> None:
        super().__init__(None, 200, {"cache-control": "no-store"}, "text/event-stream")
        del self.headers["content-length"]
        self._admitted = admitted
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Who has gone hears no status, and once the answer has begun there is no other to give.
        with suppress(ClientDisconnect):
            await unless_gone(receive, self._stream(send))

    async def _run(self, callback: Callback) -> dict[str, Any]:
        # A client that reads slowly keeps no place of those that wait and run.
        with self._admitted:
            return await self._work(callback)

    async def _stream(self, send: Send) -> None:
        loop, events = asyncio.get_running_loop(), asyncio.Queue[StepEvent | None]()
        task = asyncio.create_task(
            self._run(lambda event: loop.call_soon_threadsafe(events.put_nowait, event))
        )
        task.add_done_callback(lambda _: events.put_nowait(None))
        try:
            event = await events.get()
            if event is None:
                await task  # failed before its first step, or has none
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            while event is not None:
                await _tell(send, "step", _step(event))
                event = await events.get()
            await _tell(send, *await _end(task))
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            task.cancel()


async def _end(task: asyncio.Task[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    try:
        return "result", await task
    except Exception as error:  # noqa: BLE001 - the status is sent: it can only be told here
        if not isinstance(error, PartitionerError):
            _LOG.error("a request with progress failed", exc_info=error)
        return "error", {"status": status_of(error), "error": text_of(error)}


async def _tell(send: Send, name: str, document: dict[str, Any]) -> None:
    # JSON has no line breaks, so it is one line of data.
    body = b"event: " + name.encode() + b"\ndata: " + dumps(document) + b"\n\n"
    await send({"type": "http.response.body", "body": body, "more_body": True})


def _step(event: StepEvent) -> dict[str, Any]:
    return {"loop": event.loop, "step": event.step, "trips": event.trips, "done": event.done}
