"""Schemas of tensors, for the OpenAPI document."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from partitioner.serve.v2.datatypes import BYTES, DATATYPES, datatype_of
from partitioner.specs import Image, InputSpec, Noise, TensorSpec

__all__ = ["input_field", "request_inputs", "response_outputs"]

Json = dict[str, Any]


def request_inputs(specs: Sequence[InputSpec]) -> Json:
    """The list of inputs of a request by the protocol."""
    needed = [spec for spec in specs if spec.used and not isinstance(spec.how, Noise)]
    return {
        "type": "array",
        "minItems": len(needed),
        "maxItems": len(specs),
        "items": {"oneOf": [_input(spec) for spec in specs]},
        "allOf": [
            {"contains": {"properties": {"name": {"const": spec.name}}}, "maxContains": 1}
            for spec in needed
        ],
    }


def response_outputs() -> Json:
    """The list of outputs of a response by the protocol."""
    properties = {
        "name": {"type": "string"},
        "datatype": {"enum": list(DATATYPES)},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "parameters": {"type": "object"},
        "data": {"type": "array"},
    }
    output = {
        "type": "object",
        "properties": properties,
        "required": ["name", "datatype", "shape"],
    }
    return {"type": "array", "items": output}


def input_field(spec: InputSpec) -> Json:
    """An input as a field of ``/generate``: a picture's file in base64, or nested lists."""
    nested: Json = _number(spec.tensor.dtype)
    for size in reversed(spec.tensor.shape):
        nested = _list(nested, size if isinstance(size, int) else None)
    if not isinstance(spec.how, Image):
        return nested
    text = {"type": "string", "contentEncoding": "base64", "description": "a picture's file"}
    return {"anyOf": [text, nested]}


def _input(spec: InputSpec) -> Json:
    tensor = _tensor(spec.name, datatype_of(spec.tensor.dtype), spec.tensor)
    if not isinstance(spec.how, Image):
        return tensor
    encoded = {
        "type": "object",
        "properties": {
            "name": {"const": spec.name},
            "datatype": {"const": BYTES},
            "shape": {"const": [1]},
            "parameters": {
                "type": "object",
                "properties": {"content_type": {"const": "base64"}},
                "required": ["content_type"],
            },
            "data": _list({"type": "string", "contentEncoding": "base64"}, 1),
        },
        "required": ["name", "datatype", "shape", "parameters", "data"],
    }
    return {"anyOf": [tensor, encoded]}


def _tensor(name: str, datatype: str, spec: TensorSpec) -> Json:
    """A tensor whose elements are in JSON, flat."""
    sizes = [dim for dim in spec.shape if isinstance(dim, int)]
    fixed = len(sizes) == len(spec.shape)
    shape: Json = {"const": sizes} if fixed else _list({"type": "integer"}, len(spec.shape))
    return {
        "type": "object",
        "properties": {
            "name": {"const": name},
            "datatype": {"const": datatype},
            "shape": shape,
            "data": _list(_number(spec.dtype), math.prod(sizes) if fixed else None),
        },
        "required": ["name", "datatype", "shape", "data"],
        "additionalProperties": False,
    }


def _list(items: Json, size: int | None) -> Json:
    if size is None:
        return {"type": "array", "items": items}
    return {"type": "array", "items": items, "minItems": size, "maxItems": size}


def _number(dtype: str) -> Json:
    if dtype == "bool":
        return {"type": "boolean"}
    if dtype.startswith("float"):
        most = float(np.finfo(dtype).max)
        return {"type": "number", "minimum": -most, "maximum": most}
    limits = np.iinfo(dtype)
    return {"type": "integer", "minimum": int(limits.min), "maximum": int(limits.max)}
