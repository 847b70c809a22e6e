"""The fields of a request: JSON, a form whose files are bytes, or a picture's file alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from partitioner.serve.failures import ProtocolError
from partitioner.serve.generate.forms import FORMS, form_fields, unique_fields, url_fields
from partitioner.serve.jsontext import loads
from partitioner.specs import Image, InputSpec

__all__ = ["read_fields"]


def read_fields(
    content_type: str, query: str, body: bytearray, inputs: Sequence[InputSpec]
) -> dict[str, Any]:
    """Fields by name: values of JSON; of a form or of a picture, files as bytes.

    Pure, and takes as long as the body is large: not for the event loop.

    Args:
        content_type: the header; of ``image/*`` the body is the file of the only picture that the
            model takes, and other fields are in the query of the address.
        query: of the address, not decoded.
        body: of the request.
        inputs: of the model.

    Raises:
        ProtocolError: not an object, not a form, a field that is given twice, a picture alone for
            a model that takes none or several.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind.startswith("image/"):
        return _picture(kind, query, bytes(body), inputs)
    if kind in FORMS:
        return form_fields(content_type, bytes(body))
    try:
        fields = loads(body)
    except ValueError as error:
        raise ProtocolError(f"the request is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ProtocolError("the request must be an object")
    return cast("dict[str, Any]", fields)


def _picture(kind: str, query: str, body: bytes, inputs: Sequence[InputSpec]) -> dict[str, Any]:
    names = [spec.name for spec in inputs if isinstance(spec.how, Image)]
    if len(names) != 1:
        raise ProtocolError(
            f"{kind} is a body for a pipeline of one picture; this one takes {len(names)}",
            advice="send a form or JSON, which name their fields",
        )
    return unique_fields([*url_fields(query).items(), (names[0], body)])
