"""JSON by orjson: quick for tensors, and deep nesting is an error instead of a crash."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

__all__ = ["JsonResponse", "dumps", "loads"]


def loads(text: bytes | bytearray | memoryview | str) -> Any:
    """Parse JSON.

    Raises:
        ValueError: not JSON, or nested deeper than 1,024 levels.
    """
    return orjson.loads(text)


def dumps(document: Any) -> bytes:
    """Write JSON; contiguous arrays of numbers become nested lists."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


class JsonResponse(Response):
    """A document as an answer."""

    def __init__(
        self, document: Any, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(dumps(document), status, headers, "application/json")
