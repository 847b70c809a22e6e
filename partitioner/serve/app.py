"""The ASGI application: models in, Open Inference Protocol and the rest out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from partitioner.serve.access import AccessLog
from partitioner.serve.auth import BearerAuth
from partitioner.serve.failures import HANDLERS
from partitioner.serve.generate.routes import generate_routes
from partitioner.serve.jsontext import JsonResponse
from partitioner.serve.metrics import Metrics
from partitioner.serve.openapi import openapi_document
from partitioner.serve.options import DEFAULT_OPTIONS, ServeOptions
from partitioner.serve.service import ModelService
from partitioner.serve.state import ServerState
from partitioner.serve.v2.routes import v2_routes

__all__ = ["create_app"]


def create_app(
    services: Sequence[ModelService], options: ServeOptions = DEFAULT_OPTIONS
) -> Starlette:
    """An ASGI application over models.

    Its ``state.server`` is the :class:`partitioner.serve.state.ServerState`, by which whoever runs
    it says that it is to end (``draining``). Models are closed with the application's lifespan.

    Raises:
        UsageError: no models, or two of one name.
    """
    state = ServerState(services, options)
    metrics = Metrics(state)
    middleware = [Middleware(AccessLog, state=state, metrics=metrics)]
    if options.tokens:
        middleware.append(Middleware(BearerAuth, tokens=options.tokens))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None, None]:
        yield
        state.draining = True
        for service in services:
            await asyncio.to_thread(service.close)

    async def openapi(request: Request) -> Response:
        return JsonResponse(openapi_document(state))

    routes = [Route("/metrics", metrics.metrics), Route("/openapi.json", openapi)]
    app = Starlette(
        routes=[*v2_routes(state), *generate_routes(state), *routes],
        middleware=middleware,
        exception_handlers=HANDLERS,
        lifespan=lifespan,
    )
    app.state.server = state
    return app
