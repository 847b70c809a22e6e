"""The form of an answer: a mesh, a picture, all arrays, one array, JSON."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from partitioner.arrayfiles import write_npz
from partitioner.errors import OutputError
from partitioner.meshio import MESH_SUFFIXES, mesh_bytes
from partitioner.pictureio import PICTURE_SUFFIXES, is_picture, picture_bytes
from partitioner.serve.failures import NotAcceptableError, ProtocolError
from partitioner.serve.jsontext import dumps
from partitioner.serve.v2.datatypes import datatype_of
from partitioner.serve.v2.responses import finite_array
from partitioner.serve.v2.tensors import to_bytes
from partitioner.specs import TensorSpec

__all__ = ["MEDIA_TYPES", "Answer", "Form", "answer", "form_of", "formats_of"]

Array = np.ndarray[Any, Any]

#: format -> what it is called over HTTP.
MEDIA_TYPES = {
    "glb": "model/gltf-binary",
    "obj": "model/obj",
    "ply": "model/ply",
    "stl": "model/stl",
    "png": "image/png",
    "jpg": "image/jpeg",
    "webp": "image/webp",
    "npz": "application/zip",
    "bin": "application/octet-stream",
    "json": "application/json",
}


@dataclass(frozen=True)
class Form:
    """The form of an answer.

    Args:
        format: a key of :data:`MEDIA_TYPES`.
        output: the only output that is wanted; None for all.
    """

    format: str
    output: str | None


@dataclass(frozen=True)
class Answer:
    """An answer's body and what says how to read it."""

    body: bytes
    media_type: str
    headers: dict[str, str]


def form_of(outputs: Mapping[str, TensorSpec], output: Any, format: Any, accept: str) -> Form:
    """The form that a request asks for, by name or by its header ``Accept``.

    By default one output comes as its bytes, a mesh as GLB, a picture as PNG, all else as JSON.

    Raises:
        ProtocolError: no such output or format, or one that the model's outputs cannot have.
    """
    if output is not None and (not isinstance(output, str) or output not in outputs):
        raise ProtocolError(
            f"this pipeline has no output {output!r}", advice=f"it has {', '.join(outputs)}"
        )
    if format is not None and (not isinstance(format, str) or format not in MEDIA_TYPES):
        raise ProtocolError(
            f"there is no format {format!r}", advice=f"use one of {', '.join(MEDIA_TYPES)}"
        )
    chosen = format or _accepted(accept) or _usual(outputs, output)
    able = formats_of(outputs if output is None else {output: outputs[output]})
    if chosen not in able and not (f".{chosen}" in MESH_SUFFIXES and _has_mesh(outputs)):
        raise NotAcceptableError(
            f"the outputs cannot be given as {chosen!r}", advice=f"use one of {', '.join(able)}"
        )
    if chosen == "bin" and output is None:
        if len(outputs) > 1:
            raise ProtocolError("bytes are of one output", advice="name it: output=NAME")
        output = next(iter(outputs))
    return Form(chosen, output)


def answer(outputs: Mapping[str, Array], form: Form) -> Answer:
    """Outputs in the form that was asked for.

    Raises:
        NotAcceptableError: they cannot have it: no picture; numbers that JSON cannot hold.
        OutputError: a mesh without triangles, or with faces of vertices that it has not.
        MissingDependencyError: trimesh or Pillow is not installed.
    """
    wanted = outputs if form.output is None else {form.output: outputs[form.output]}
    media_type, suffix = MEDIA_TYPES[form.format], f".{form.format}"
    if suffix in MESH_SUFFIXES:
        body = _mesh(outputs, suffix)
    elif suffix in PICTURE_SUFFIXES:
        body = _picture(wanted, suffix)
    elif form.format == "npz":
        body = _npz(wanted)
    elif form.format == "json":
        body = dumps({name: finite_array(name, array) for name, array in wanted.items()})
    else:
        return _bytes(*wanted.values())
    return Answer(body, media_type, {})


def formats_of(outputs: Mapping[str, TensorSpec]) -> list[str]:
    """The formats that a model's outputs can have."""
    pictures, meshes = any(map(_pictured, outputs.values())), _has_mesh(outputs)
    return [
        name
        for name in MEDIA_TYPES
        if (pictures or f".{name}" not in PICTURE_SUFFIXES)
        and (meshes or f".{name}" not in MESH_SUFFIXES)
    ]


def _has_mesh(outputs: Mapping[str, TensorSpec]) -> bool:
    return {"vertices", "faces"} <= set(outputs)


def _usual(outputs: Mapping[str, TensorSpec], output: str | None) -> str:
    if output is not None:
        return "bin"
    if _has_mesh(outputs):
        return "glb"
    return "png" if any(map(_pictured, outputs.values())) else "json"


def _pictured(spec: TensorSpec) -> bool:
    return len(spec.shape) == 4 and spec.shape[1] in (1, 3) and spec.dtype.startswith("float")


def _accepted(accept: str) -> str | None:
    """The first of the media types that a client takes which is the one of a format."""
    names = {media_type: name for name, media_type in MEDIA_TYPES.items()}
    kinds = (part.partition(";")[0].strip().lower() for part in accept.split(","))
    return next((names[kind] for kind in kinds if kind in names), None)


def _mesh(outputs: Mapping[str, Array], suffix: str) -> bytes:
    try:
        return mesh_bytes(outputs["vertices"], outputs["faces"], suffix)
    except ValueError as error:
        raise OutputError(f"the outputs are no mesh: {error}") from error


def _picture(outputs: Mapping[str, Array], suffix: str) -> bytes:
    found = next((array for array in outputs.values() if is_picture(array)), None)
    if found is None:
        raise NotAcceptableError("this pipeline gives no picture of shape (1, 3, height, width)")
    return picture_bytes(found, suffix)


def _npz(outputs: Mapping[str, Array]) -> bytes:
    file = io.BytesIO()
    write_npz(file, outputs)
    return file.getvalue()


def _bytes(array: Array) -> Answer:
    headers = {
        "partition-datatype": datatype_of(array.dtype.name),
        "partition-shape": ",".join(map(str, array.shape)),
    }
    return Answer(bytes(to_bytes(array)), MEDIA_TYPES["bin"], headers)
