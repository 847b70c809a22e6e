"""The OpenAPI document of a server: its models' own tensors, with sizes and types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import partitioner
from partitioner.serve.controls import option_names
from partitioner.serve.generate.formats import MEDIA_TYPES, formats_of
from partitioner.serve.openapi_tensors import input_field, request_inputs, response_outputs
from partitioner.serve.service import ModelService
from partitioner.serve.state import ServerState
from partitioner.specs import Noise

__all__ = ["openapi_document"]

Json = dict[str, Any]

_ERROR: Json = {
    "type": "object",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
}

#: What an inference request may be refused with, beside a missing token.
_REFUSALS = {
    400: "The request cannot be meant; says why.",
    404: "No such model or version.",
    406: "The outputs cannot have that form.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    422: "The mesh has no triangles.",
    429: "Too many requests wait; Retry-After says when to come again.",
    501: "The server lacks a library for it.",
    503: "The server is about to end.",
    504: "The request was not done in its time.",
}


def openapi_document(state: ServerState) -> Json:
    """The document, OpenAPI 3.1."""
    paths: Json = {
        "/v2": {"get": _get("What the server is", "server")},
        "/v2/health/live": {"get": _get("Whether the process works", "live", open=True)},
        "/v2/health/ready": {"get": _get("Whether to send requests", "ready", 503, open=True)},
        "/generate": {"post": _generate(state.service(), "generate")},
        "/metrics": {"get": _metrics()},
        "/openapi.json": {"get": _get("This document", "openapi")},
    }
    for name, service in state.services.items():
        for path, own in (
            (f"/v2/models/{name}", name),
            (f"/v2/models/{name}/versions/{service.version}", f"{name}-{service.version}"),
        ):
            paths[path] = {"get": _get("Inputs and outputs", f"model-{own}")}
            paths[f"{path}/ready"] = {"get": _get("Whether it is ready", f"ready-{own}", 503)}
            paths[f"{path}/infer"] = {"post": _infer(service, f"infer-{own}")}
        paths[f"/v2/models/{name}/generate"] = {"post": _generate(service, f"generate-{name}")}
    document: Json = {
        "openapi": "3.1.0",
        "info": {"title": "partitioner", "version": partitioner.__version__},
        "paths": paths,
        "components": {"schemas": {"Error": _ERROR}},
    }
    if state.options.tokens:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def _content(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _refusal(text: str) -> Json:
    return {"description": text, "content": _content({"$ref": "#/components/schemas/Error"})}


def _get(summary: str, id: str, *others: int, open: bool = False) -> Json:
    told = {"description": summary, "content": _content({"type": "object"})}
    responses: Json = {"200": told, **{str(status): told for status in others}}
    if open:
        return {"operationId": id, "summary": summary, "security": [], "responses": responses}
    responses["401"] = _refusal("A bearer token is required.")
    return {"operationId": id, "summary": summary, "responses": responses}


def _metrics() -> Json:
    operation = _get("Prometheus metrics", "metrics")
    operation["responses"]["200"] = {
        "description": "Prometheus' text format",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
    return operation


def _post(summary: str, id: str, content: Json, response: Json) -> Json:
    refused = {401: "A bearer token is required.", **_REFUSALS}
    responses = {str(status): _refusal(text) for status, text in refused.items()}
    return {
        "operationId": id,
        "summary": summary,
        "requestBody": {"required": True, "content": content},
        "responses": {"200": {"description": "The outputs", "content": response}, **responses},
    }


def _infer(service: ModelService, id: str) -> Json:
    head: Json = {
        "id": {"type": "string"},
        "model_name": {"const": service.name},
        "model_version": {"const": service.version},
        "parameters": {"type": "object"},
        "outputs": response_outputs(),
    }
    asked: Json = {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "parameters": _parameters(service),
            "inputs": request_inputs(service.inputs),
            "outputs": _wanted(list(service.outputs)),
        },
        "required": ["inputs"],
    }
    answered: Json = {
        "type": "object",
        "properties": head,
        "required": ["model_name", "model_version", "outputs"],
    }
    binary = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    # Tensors in binary form are described in words: OpenAPI has no way to say them.
    operation = _post(
        "Inference by the Open Inference Protocol", id, _content(asked), _content(answered) | binary
    )
    operation["description"] = (
        "With the header Inference-Header-Content-Length the body is so many bytes of JSON, then "
        "the tensors that have binary_data_size in their parameters, in order."
    )
    return operation


def _options(service: ModelService) -> Json:
    return {
        name: {"enum": list(dict.fromkeys(v[name] for v in service.variants if name in v))}
        for name in option_names(service)
    }


def _seed() -> Json:
    return {"type": ["integer", "null"], "minimum": -(2**63), "maximum": 2**64 - 1}


def _time(unit: str) -> Json:
    return {"type": ["number", "null"], "exclusiveMinimum": 0, "description": unit}


def _parameters(service: ModelService) -> Json:
    return {
        "type": "object",
        "properties": {
            "seed": _seed(),
            "timeout": _time("microseconds"),
            "binary_data_output": {"type": "boolean"},
            **_options(service),
        },
        "additionalProperties": False,
    }


def _wanted(names: list[str]) -> Json:
    binary = {"type": "object", "properties": {"binary_data": {"type": "boolean"}}}
    output = {
        "type": "object",
        "properties": {"name": {"enum": names}, "parameters": binary},
        "required": ["name"],
    }
    once = [
        {
            "contains": {"properties": {"name": {"const": name}}},
            "minContains": 0,
            "maxContains": 1,
        }
        for name in names
    ]
    return {"type": "array", "items": output, "maxItems": len(names), "allOf": once}


def _generate(service: ModelService, id: str) -> Json:
    words: Mapping[str, Json] = {
        "output": {"enum": [*service.outputs, None]},
        "format": {"enum": [*formats_of(service.outputs), None]},
        "stream": {"type": "boolean", "description": "progress as server-sent events"},
        "timeout": _time("seconds"),
    }
    named = {spec.name: input_field(spec) for spec in service.inputs}
    fields: Json = {
        "type": "object",
        "properties": {**words, "seed": _seed(), **_options(service), **named},
        "required": [s.name for s in service.inputs if s.used and not isinstance(s.how, Noise)],
        "additionalProperties": False,
    }
    if len(service.outputs) > 1:
        chosen = {"properties": {"format": {"const": "bin"}}, "required": ["format"]}
        named = {"properties": {"output": {"type": "string"}}, "required": ["output"]}
        fields |= {"if": chosen, "then": named}
    types = (*MEDIA_TYPES.values(), "text/event-stream")
    response = {kind: {"schema": {}} for kind in types}
    operation = _post("Pictures, numbers and a seed in, a file out", id, _content(fields), response)
    operation["description"] = (
        "The fields may come as a form (multipart/form-data), too, with pictures as files; or the "
        "only picture of a pipeline alone (image/*), with other fields in the query."
    )
    return operation
