"""Inference responses: outputs as JSON or as bytes behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from partitioner.serve.failures import NotAcceptableError, ProtocolError
from partitioner.serve.jsontext import dumps
from partitioner.serve.v2.datatypes import datatype_of
from partitioner.serve.v2.requests import InferRequest
from partitioner.serve.v2.tensors import to_bytes

__all__ = ["Rendered", "check_outputs", "finite_array", "render"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Rendered:
    """A response's body.

    Args:
        body: JSON, then the tensors in binary form.
        header: bytes of JSON, where anything follows it.
    """

    body: bytes
    header: int | None


def check_outputs(request: InferRequest, known: Mapping[str, Any]) -> None:
    """Refuse outputs that the model does not have, before it is run.

    Raises:
        ProtocolError: says which.
    """
    unknown = [name for name in request.outputs or () if name not in known]
    if unknown:
        raise ProtocolError(
            f"this pipeline has no output {unknown[0]!r}", advice=f"it has {', '.join(known)}"
        )


def render(head: Mapping[str, Any], outputs: Mapping[str, Any], request: InferRequest) -> Rendered:
    """A response.

    Args:
        head: what stands before the outputs: name, version, parameters.
        outputs: name -> array, or a list of which each row has one of its own: ``NAME.0``.

    Raises:
        NotAcceptableError: an output in JSON has numbers that are not finite.
    """
    wanted = request.outputs or dict.fromkeys(outputs, request.binary)
    described: list[dict[str, Any]] = []
    tensors: list[memoryview] = []
    for name, binary in wanted.items():
        for own, array in _rows(name, outputs[name]):
            shown: dict[str, Any] = {
                "name": own,
                "datatype": datatype_of(array.dtype.name),
                "shape": list(array.shape),
            }
            if binary:
                tensors.append(to_bytes(array))
                shown["parameters"] = {"binary_data_size": array.nbytes}
            else:
                shown["data"] = finite_array(own, array).reshape(-1)
            described.append(shown)
    text = dumps({**head, "outputs": described})
    return Rendered(b"".join((text, *tensors)), len(text) if tensors else None)


def finite_array(name: str, array: Array) -> Array:
    """An array that JSON can hold, contiguous.

    Raises:
        NotAcceptableError: some numbers are not finite.
    """
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise NotAcceptableError(
            f"output {name!r} has numbers that JSON cannot hold (NaN or infinity)",
            advice="ask for binary data",
        )
    return np.ascontiguousarray(array)


def _rows(name: str, value: Any) -> list[tuple[str, Array]]:
    if isinstance(value, list):
        return [(f"{name}.{row}", array) for row, array in enumerate(value)]
    return [(name, value)]
