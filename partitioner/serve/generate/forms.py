"""Forms, read: pure, for bodies that come from strangers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl

from python_multipart import FormParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, parse_options_header

from partitioner.serve.failures import ProtocolError
from partitioner.serve.jsontext import loads

__all__ = ["FORMS", "form_fields", "unique_fields", "url_fields"]

#: Media types of what :func:`form_fields` reads.
FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")

#: Parts of a form at most: inputs and a few words beside them.
_MAX_PARTS = 100

#: The body is in memory already, so files need not go to a disk.
_IN_MEMORY = {"MAX_MEMORY_FILE_SIZE": float("inf")}


def form_fields(content_type: str, body: bytes) -> dict[str, Any]:
    """Fields of a form by name: files as bytes, text as JSON if it is that.

    Args:
        content_type: the header, with its parameters; its media type is one of :data:`FORMS`.

    Raises:
        ProtocolError: malformed, cut off, of more than 100 parts, or with a field given twice.
    """
    kind, parameters = parse_options_header(content_type)
    if kind == b"multipart/form-data":
        return unique_fields(_parts(parameters.get(b"boundary"), body))
    return url_fields(body.decode("latin-1"))


def url_fields(text: str) -> dict[str, Any]:
    """Fields of ``name=value&name=value``, as JSON if they are that.

    Raises:
        ProtocolError: more than 100 of them, or one that is given twice.
    """
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_PARTS)
    except ValueError as error:
        raise ProtocolError(f"the form cannot be read: {error}") from error
    return unique_fields((name, _value(value)) for name, value in pairs)


def unique_fields(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Pairs as a mapping.

    Raises:
        ProtocolError: a name is given twice.
    """
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            raise ProtocolError(f"{name!r} is given twice")
        fields[name] = value
    return fields


def _parts(boundary: bytes | None, body: bytes) -> list[tuple[str, Any]]:
    """Names and contents of a multipart body."""
    parts: list[tuple[str, Any]] = []
    ends: list[bool] = []

    def add(name: bytes | None, value: Any) -> None:
        if len(parts) == _MAX_PARTS:
            raise ProtocolError(f"the form has more than {_MAX_PARTS} parts")
        parts.append((_text(name or b""), value))

    def add_field(field: Field) -> None:
        add(field.field_name, _value(_text(field.value or b"")))

    def add_file(file: File) -> None:
        file.file_object.seek(0)
        add(file.field_name, file.file_object.read())

    try:
        parser = FormParser(
            "multipart/form-data",
            add_field,
            add_file,
            on_end=lambda: ends.append(True),
            boundary=boundary,
            config=_IN_MEMORY,
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise ProtocolError(f"the form cannot be read: {error}") from error
    if not ends:
        raise ProtocolError("the form cannot be read: it does not end with its boundary")
    return parts


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _value(text: str) -> Any:
    try:
        return loads(text)
    except ValueError:
        return text
