"""Inference requests, parsed: pure, for bodies that come from strangers."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from partitioner.serve.failures import ProtocolError
from partitioner.serve.jsontext import loads
from partitioner.serve.v2.datatypes import BYTES
from partitioner.serve.v2.tensors import from_bytes, from_json, shape_of

__all__ = ["InferRequest", "header_length", "parse_request"]

Array = np.ndarray[Any, Any]
Json = Mapping[str, Any]


@dataclass(frozen=True)
class InferRequest:
    """An inference request.

    Args:
        id: of the client's; given back.
        inputs: by name; of BYTES an array of objects, which are bytes.
        outputs: name -> whether in binary form; None for all outputs.
        binary: whether outputs that say nothing else come in binary form.
        parameters: all others.
    """

    id: str | None
    inputs: dict[str, Array]
    outputs: dict[str, bool] | None
    binary: bool
    parameters: dict[str, Any]


def header_length(text: str | None) -> int | None:
    """The header ``Inference-Header-Content-Length``: bytes of JSON before the tensors.

    Raises:
        ProtocolError: not a number of bytes.
    """
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ProtocolError("Inference-Header-Content-Length must be a number of bytes")
    return int(text)


def parse_request(body: bytes | bytearray, header: int | None) -> InferRequest:
    """An inference request out of a body.

    Args:
        body: JSON, then the tensors in binary form, one after the other.
        header: bytes of JSON; None if that is all.

    Raises:
        ProtocolError: says what is wrong with it.
    """
    whole = memoryview(body)
    if header is not None and header > len(whole):
        raise ProtocolError(
            f"Inference-Header-Content-Length is {header}, but the body has {len(whole)} bytes"
        )
    document = _object(_json(whole[:header]), "the request")
    rest = memoryview(b"") if header is None else whole[header:]
    parameters = dict(_object(document.get("parameters", {}), "parameters"))
    binary = _flag(parameters.pop("binary_data_output", False), "binary_data_output")
    if not isinstance(document.get("id", ""), str):
        raise ProtocolError("id must be a string")
    outputs = _outputs(document.get("outputs", []), binary)
    return InferRequest(document.get("id"), _inputs(document, rest), outputs, binary, parameters)


def _json(text: memoryview) -> Any:
    try:
        return loads(text)
    except ValueError as error:
        raise ProtocolError(f"the request is not JSON: {error}") from error


def _object(value: object, what: str) -> Json:
    if not isinstance(value, dict):
        raise ProtocolError(f"{what} must be an object")
    return cast(Json, value)


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise ProtocolError(f"{what} must be a list")
    return cast("list[Any]", value)


def _flag(value: object, what: str) -> bool:
    if not isinstance(value, bool):
        raise ProtocolError(f"{what} must be true or false")
    return value


def _text(tensor: Json, key: str, what: str) -> str:
    value = tensor.get(key)
    if not isinstance(value, str):
        raise ProtocolError(f"{what} needs a {key}, a string")
    return value


def _inputs(document: Json, rest: memoryview) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for item in _list(document.get("inputs"), "inputs"):
        tensor = _object(item, "an input")
        name = _text(tensor, "name", "an input")
        if name in found:
            raise ProtocolError(f"input {name!r} is given twice")
        found[name], used = _input(name, tensor, rest)
        rest = rest[used:]
    if len(rest):
        raise ProtocolError(
            f"{len(rest)} bytes are left after the tensors",
            advice="binary_data_size of the inputs must add up to what follows the JSON",
        )
    return found


def _input(name: str, tensor: Json, rest: memoryview) -> tuple[Array, int]:
    """An input, and how many of the following bytes it took."""
    what = f"input {name!r}"
    datatype, shape = _text(tensor, "datatype", what), shape_of(name, tensor.get("shape"))
    parameters = _object(tensor.get("parameters", {}), f"parameters of {what}")
    size = parameters.get("binary_data_size")
    if size is None:
        if "data" not in tensor:
            raise ProtocolError(f"{what} needs data, or binary_data_size in its parameters")
        array = from_json(name, datatype, shape, tensor["data"])
        coded = datatype == BYTES and parameters.get("content_type") == "base64"
        return (_decoded(name, array) if coded else array), 0
    if type(size) is not int or size < 0:
        raise ProtocolError(f"{what}: binary_data_size must be a number of bytes")
    if "data" in tensor:
        raise ProtocolError(f"{what} has data and binary_data_size")
    if size > len(rest):
        raise ProtocolError(f"{what}: binary_data_size is {size}, but {len(rest)} bytes are left")
    return from_bytes(name, datatype, shape, rest[:size]), size


def _decoded(name: str, array: Array) -> Array:
    """Strings of base64 as bytes; MLServer's clients send pictures in JSON so."""
    decoded = np.empty(array.size, object)
    try:
        for place, item in enumerate(array.ravel()):
            decoded[place] = base64.b64decode(item, validate=True)
    except binascii.Error as error:
        raise ProtocolError(f"input {name!r} is not base64: {error}") from error
    return decoded.reshape(array.shape)


def _outputs(value: object, binary: bool) -> dict[str, bool] | None:
    found: dict[str, bool] = {}
    for item in _list(value, "outputs"):
        tensor = _object(item, "an output")
        name = _text(tensor, "name", "an output")
        if name in found:
            raise ProtocolError(f"output {name!r} is asked for twice")
        parameters = _object(tensor.get("parameters", {}), f"parameters of output {name!r}")
        if "classification" in parameters:
            raise ProtocolError("the classification extension is not supported")
        found[name] = _flag(parameters.get("binary_data", binary), "binary_data")
    return found or None
