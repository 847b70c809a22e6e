"""What the server and its models say of themselves."""

from __future__ import annotations

from typing import Any

import partitioner
from partitioner.serve.service import ModelService
from partitioner.serve.v2.datatypes import datatype_of, open_shape
from partitioner.specs import TensorSpec

__all__ = ["model_metadata", "server_metadata"]


def server_metadata() -> dict[str, Any]:
    """The body of ``GET /v2``."""
    return {
        "name": "partitioner",
        "version": partitioner.__version__,
        "extensions": ["binary_tensor_data", "schedule_policy"],
    }


def model_metadata(service: ModelService) -> dict[str, Any]:
    """The body of ``GET /v2/models/{name}``. Sizes that are not fixed are -1."""
    return {
        "name": service.name,
        "versions": [service.version],
        "platform": "partitioner",
        "inputs": [_tensor(spec.name, spec.tensor) for spec in service.inputs],
        "outputs": [_tensor(name, spec) for name, spec in service.outputs.items()],
    }


def _tensor(name: str, spec: TensorSpec) -> dict[str, Any]:
    return {"name": name, "datatype": datatype_of(spec.dtype), "shape": open_shape(spec.shape)}
