"""Errors as answers: the status of each kind, and the body ``{"error": "..."}``."""

from __future__ import annotations

import logging
from typing import ClassVar

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from partitioner.errors import (
    DeadlineError,
    InputError,
    MissingDependencyError,
    OutputError,
    OverloadedError,
    PartitionerError,
    UsageError,
)
from partitioner.serve.jsontext import JsonResponse

__all__ = [
    "CLIENT_CLOSED",
    "HANDLERS",
    "NotAcceptableError",
    "NotFoundError",
    "ProtocolError",
    "SlowClientError",
    "TooLargeError",
    "UnavailableError",
    "status_of",
    "text_of",
]

#: nginx's status for requests whose client has gone; only logs and metrics see it.
CLIENT_CLOSED = 499

_MOST_TEXT = 2000

_LOG = logging.getLogger("partitioner.serve")


class ProtocolError(InputError):
    """A request that does not keep the protocol."""

    status: ClassVar[int] = 400


class NotFoundError(ProtocolError):
    """No such model, version or output."""

    status = 404


class NotAcceptableError(ProtocolError):
    """The outputs cannot be given in the form that was asked for."""

    status = 406


class SlowClientError(ProtocolError):
    """The body did not arrive in time."""

    status = 408


class TooLargeError(ProtocolError):
    """The body is larger than the server takes."""

    status = 413


class UnavailableError(OverloadedError):
    """The server is about to end."""


#: The first that fits. What is not here is the server's own fault, 500.
_STATUS: tuple[tuple[type[PartitionerError], int], ...] = (
    (InputError, 400),
    (OutputError, 422),
    (UnavailableError, 503),
    (OverloadedError, 429),
    (MissingDependencyError, 501),
    (DeadlineError, 504),
    (UsageError, 503),  # the pipeline was closed
)


def status_of(error: Exception) -> int:
    """The HTTP status of an error."""
    if isinstance(error, ProtocolError):
        return error.status
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def text_of(error: Exception) -> str:
    """What the client is told: nothing of the inside of an unexpected error."""
    if not isinstance(error, PartitionerError):
        return "internal error; the server's log has it"
    text = f"{error.what}; {error.advice}" if error.advice else error.what
    return text[:_MOST_TEXT]  # it may repeat what the client sent


def respond(request: Request, error: Exception) -> Response:
    """An error as an answer; the server's own faults are logged."""
    status = status_of(error)
    if status >= 500 and not isinstance(error, (OverloadedError, DeadlineError)):
        _LOG.error("%s %s: %s", request.method, request.url.path, error, exc_info=error)
    headers = {"retry-after": "1"} if isinstance(error, OverloadedError) else None
    return JsonResponse({"error": text_of(error)}, status, headers)


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JsonResponse({"error": error.detail}, error.status_code, error.headers)


def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED)


#: For Starlette's ``exception_handlers``.
HANDLERS = {
    PartitionerError: respond,
    HTTPException: _http,
    ClientDisconnect: _gone,
    Exception: lambda request, error: JsonResponse({"error": text_of(error)}, 500),
}
