"""``POST /generate``."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from partitioner.runtime.events import Callback
from partitioner.serve.bodies import read_body
from partitioner.serve.disconnects import unless_gone
from partitioner.serve.generate.asking import Ask, ask_of
from partitioner.serve.generate.events import EventStream
from partitioner.serve.generate.fields import read_fields
from partitioner.serve.generate.formats import Answer, answer
from partitioner.serve.options import ServeOptions
from partitioner.serve.service import ModelService
from partitioner.serve.state import ServerState

__all__ = ["generate_routes"]


def generate_routes(state: ServerState) -> list[Route]:
    """``/generate`` for the first model, and one for each by name."""
    own = _Routes(state)
    return [
        Route("/generate", own.generate, methods=["POST"]),
        Route("/v2/models/{name}/generate", own.generate, methods=["POST"]),
    ]


class _Routes:
    def __init__(self, state: ServerState) -> None:
        self._state = state

    async def generate(self, request: Request) -> Response:
        state = self._state
        service = state.service(request.path_params.get("name"))
        with state.admitted(service):
            body = await read_body(request, state.options)
            # In a thread: forms and pictures take milliseconds, large ones seconds.
            ask = await asyncio.to_thread(_read, request, body, service, state.options)
            if not ask.stream:
                made = await unless_gone(request.receive, _run(service, ask, None))
                return Response(made.body, 200, _headers(made, ask), made.media_type)

        async def work(callback: Callback) -> dict[str, Any]:
            return _document(await _run(service, ask, callback), ask)

        return EventStream(state.admitted(service), work)


def _read(request: Request, body: bytearray, service: ModelService, options: ServeOptions) -> Ask:
    headers = request.headers
    content_type = headers.get("content-type", "application/json")
    fields = read_fields(content_type, request.url.query, body, service.inputs)
    return ask_of(service, fields, headers.get("accept", ""), options)


async def _run(service: ModelService, ask: Ask, callback: Callback | None) -> Answer:
    controls = ask.controls
    outputs = await service.infer(
        ask.inputs,
        seed=controls.seed,
        timeout=controls.timeout,
        options=controls.options,
        callback=callback,
    )
    return await asyncio.to_thread(answer, outputs, ask.form)


def _headers(made: Answer, ask: Ask) -> dict[str, str]:
    seed = {} if ask.controls.seed is None else {"partition-seed": str(ask.controls.seed)}
    return {**made.headers, **seed}


def _document(made: Answer, ask: Ask) -> dict[str, Any]:
    """An answer as the last event of several."""
    data = base64.b64encode(made.body).decode()
    return {
        "seed": ask.controls.seed,
        "media_type": made.media_type,
        **{name.removeprefix("partition-"): text for name, text in made.headers.items()},
        "base64": data,
    }
