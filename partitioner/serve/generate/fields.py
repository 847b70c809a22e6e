"""The fields of a request: JSON, or a form whose files are bytes."""

from __future__ import annotations

from typing import Any, cast

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.types import Message

from partitioner.serve.bodies import off_loop
from partitioner.serve.failures import ProtocolError
from partitioner.serve.jsontext import loads

__all__ = ["read_fields"]

#: Parts of a form at most: inputs and a few words beside them.
_MAX_PARTS = 100


async def read_fields(request: Request, body: bytearray) -> dict[str, Any]:
    """Fields by name: values of JSON; in a form, files as bytes and text as JSON if it is that.

    Args:
        body: of the request.

    Raises:
        ProtocolError: not an object, not a form, or a field that is given twice.
        HTTPException: a form that is malformed (status 400).
    """
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        return await _form(request, body)
    try:
        fields = await off_loop(len(body), loads, body)
    except ValueError as error:
        raise ProtocolError(f"the request is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ProtocolError("the request must be an object")
    return cast("dict[str, Any]", fields)


async def _form(request: Request, body: bytearray) -> dict[str, Any]:
    async def receive() -> Message:
        return {"type": "http.request", "body": bytes(body), "more_body": False}

    fields: dict[str, Any] = {}
    whole = Request(request.scope, receive)
    async with whole.form(max_files=_MAX_PARTS, max_fields=_MAX_PARTS) as form:
        for name, value in form.multi_items():
            if name in fields:
                raise ProtocolError(f"{name!r} is given twice")
            fields[name] = await value.read() if isinstance(value, UploadFile) else _value(value)
    return fields


def _value(text: str) -> Any:
    try:
        return loads(text)
    except ValueError:
        return text
