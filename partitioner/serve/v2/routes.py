"""The protocol's addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from partitioner.serve.bodies import off_loop, read_body
from partitioner.serve.controls import Controls, controls_of, time_limit
from partitioner.serve.disconnects import unless_gone
from partitioner.serve.jsontext import JsonResponse
from partitioner.serve.pictures import with_pictures
from partitioner.serve.service import ModelService
from partitioner.serve.state import ServerState
from partitioner.serve.v2.metadata import model_metadata, server_metadata
from partitioner.serve.v2.requests import InferRequest, header_length, parse_request
from partitioner.serve.v2.responses import check_outputs, render

__all__ = ["v2_routes"]

#: Header of requests and responses with tensors in binary form.
HEADER = "inference-header-content-length"

#: Triton's unit for ``timeout`` in its schedule policy extension.
_MICROSECOND = 1e-6


def v2_routes(state: ServerState) -> list[Route]:
    """The routes of the Open Inference Protocol."""
    own = _Routes(state)
    routes = [
        Route("/v2", own.server),
        Route("/v2/health/live", own.live),
        Route("/v2/health/ready", own.ready),
    ]
    for model in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        routes += [
            Route(model, own.model),
            Route(f"{model}/ready", own.model_ready),
            Route(f"{model}/infer", own.infer, methods=["POST"]),
        ]
    return routes


class _Routes:
    def __init__(self, state: ServerState) -> None:
        self._state = state

    async def server(self, request: Request) -> Response:
        return JsonResponse(server_metadata())

    async def live(self, request: Request) -> Response:
        return JsonResponse({"live": True})

    async def ready(self, request: Request) -> Response:
        ready = self._state.ready
        return JsonResponse({"ready": ready}, 200 if ready else 503)

    async def model(self, request: Request) -> Response:
        return JsonResponse(model_metadata(self._service(request)))

    async def model_ready(self, request: Request) -> Response:
        service = self._service(request)
        ready = service.ready() and not self._state.draining
        return JsonResponse({"name": service.name, "ready": ready}, 200 if ready else 503)

    async def infer(self, request: Request) -> Response:
        service, options = self._service(request), self._state.options
        with self._state.admitted(service):
            length = header_length(request.headers.get(HEADER))
            body = await read_body(request, options)
            asked = await off_loop(len(body), parse_request, body, length)
            check_outputs(asked, service.outputs)
            controls = _controls(service, asked.parameters, options.timeout)
            work = self._run(service, asked, controls)
            outputs = await unless_gone(request.receive, work)
        size = sum(array.nbytes for value in outputs.values() for array in _arrays(value))
        rendered = await off_loop(size, render, _head(service, asked, controls), outputs, asked)
        if rendered.header is None:
            return Response(rendered.body, media_type="application/json")
        headers = {HEADER: str(rendered.header)}
        return Response(rendered.body, 200, headers, "application/octet-stream")

    async def _run(
        self, service: ModelService, asked: InferRequest, controls: Controls
    ) -> Mapping[str, Any]:
        inputs: dict[str, Any] = asked.inputs
        if any(array.dtype == object for array in asked.inputs.values()):
            # Takes milliseconds, so not on the event loop.
            most = self._state.options.max_pixels
            inputs = await asyncio.to_thread(with_pictures, service.inputs, asked.inputs, most)
        return await service.infer(
            inputs, seed=controls.seed, timeout=controls.timeout, options=controls.options
        )

    def _service(self, request: Request) -> ModelService:
        path = request.path_params
        return self._state.service(path["name"], path.get("version"))


def _controls(service: ModelService, parameters: Mapping[str, Any], most: float | None) -> Controls:
    limit = time_limit(parameters.get("timeout"), most, _MICROSECOND)
    return controls_of(service, parameters, limit, ("timeout",))


def _head(service: ModelService, asked: InferRequest, controls: Controls) -> dict[str, Any]:
    head: dict[str, Any] = {"model_name": service.name, "model_version": service.version}
    if asked.id is not None:
        head["id"] = asked.id
    if controls.seed is not None:
        head["parameters"] = {"seed": controls.seed}
    return head


def _arrays(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
