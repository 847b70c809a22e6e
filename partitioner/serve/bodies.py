"""Bodies of requests: bounded while they arrive and while they are decompressed."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from starlette.requests import Request

from partitioner.serve.failures import ProtocolError, SlowClientError, TooLargeError
from partitioner.serve.options import ServeOptions

__all__ = ["off_loop", "read_body"]

P = ParamSpec("P")
T = TypeVar("T")

#: Bytes from which on work on a body would hold up other requests for milliseconds.
_LARGE = 1 << 20

#: gzip, and zlib's form, which HTTP calls deflate; zlib tells them apart.
_CODINGS = ("gzip", "x-gzip", "deflate")


async def read_body(request: Request, options: ServeOptions) -> bytearray:
    """The body, decompressed.

    Raises:
        TooLargeError: more than ``options.max_body``, by its header or while it arrives.
        SlowClientError: not here after ``options.read_timeout``.
        ProtocolError: compressed in another way than gzip and deflate, or damaged.
        ClientDisconnect: the client has gone.
    """
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in (*_CODINGS, "identity"):
        raise ProtocolError(
            f"Content-Encoding {coding!r} is not supported", advice="use gzip, deflate or none"
        )
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > options.max_body:
        raise _too_large(options.max_body)
    limit = asyncio.timeout(options.read_timeout)
    try:
        async with limit:
            body = await _read(request, options.max_body)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise SlowClientError(
            f"the body did not arrive within {options.read_timeout:g} s"
        ) from error
    if coding == "identity":
        return body
    return await off_loop(_LARGE, _inflate, body, options.max_body)


async def off_loop(size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do pure work here, or in a thread if so many bytes of it would hold up other requests."""
    if size < _LARGE:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)


async def _read(request: Request, most: int) -> bytearray:
    body = bytearray()
    async for chunk in request.stream():
        if len(body) + len(chunk) > most:
            raise _too_large(most)
        body += chunk
    return body


def _inflate(body: bytearray, most: int) -> bytearray:
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    try:
        plain = inflater.decompress(body, most + 1)
    except zlib.error as error:
        raise ProtocolError(f"the body cannot be decompressed: {error}") from error
    if len(plain) > most:
        raise _too_large(most)
    if not inflater.eof or inflater.unused_data:
        raise ProtocolError("the body cannot be decompressed: it does not end where it should")
    return bytearray(plain)


def _too_large(most: int) -> TooLargeError:
    return TooLargeError(
        f"the body is larger than {most} bytes",
        advice="send less, or raise the server's --max-body",
    )
