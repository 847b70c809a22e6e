"""Bearer tokens: an ASGI middleware in front of everything but health."""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from partitioner.errors import UsageError
from partitioner.serve.jsontext import JsonResponse

__all__ = ["TOKEN_VARIABLE", "BearerAuth", "read_tokens"]

#: Holds a token where no file does.
TOKEN_VARIABLE = "PARTITIONER_TOKEN"

#: Who balances load has no token.
_OPEN = ("/v2/health/live", "/v2/health/ready")


class BearerAuth:
    """Refuse requests without one of the tokens, before anything of their body is read.

    Args:
        tokens: several, so that a new one can come into use before the old one goes.
    """

    def __init__(self, app: ASGIApp, tokens: tuple[str, ...]) -> None:
        self._app = app
        self._digests = tuple(_digest(token) for token in tokens)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _OPEN or self._allows(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        response = JsonResponse(
            {"error": "a bearer token is required"}, 401, {"www-authenticate": "Bearer"}
        )
        await response(scope, receive, send)

    def _allows(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return False
        given = _digest(token.strip())
        # Each is compared, in constant time: neither content nor place shows in how long it takes.
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        return any(matches)


def read_tokens(file: str | os.PathLike[str] | None) -> tuple[str, ...]:
    """Tokens of a file, one a line, or the one of ``PARTITIONER_TOKEN``; none where there is none.

    Raises:
        UsageError: the file cannot be read, or holds none.
    """
    if file is None:
        token = os.environ.get(TOKEN_VARIABLE, "").strip()
        return (token,) if token else ()
    try:
        lines = Path(file).read_text("ascii").splitlines()
    except (OSError, UnicodeError) as error:
        raise UsageError(f"the tokens cannot be read: {error}", where=str(file)) from error
    tokens = tuple(line.strip() for line in lines if line.strip())
    if not tokens:
        raise UsageError(
            "the file holds no token", where=str(file), advice="write one a line into it"
        )
    return tokens


def _digest(token: str) -> bytes:
    # Of one length whatever is given.
    return hashlib.sha256(token.encode("latin-1", "replace")).digest()
