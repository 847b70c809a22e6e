"""Write a mesh to a file. Imports trimesh when it writes, and no torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import numpy as np

from partitioner.errors import MissingDependencyError, OutputError
from partitioner.wholefiles import write_whole

__all__ = ["MESH_SUFFIXES", "mesh_bytes", "write_mesh"]

Array = np.ndarray[Any, Any]

#: Binary but for ``.obj``, which is text and takes twenty times as long to write.
MESH_SUFFIXES = (".glb", ".obj", ".ply", ".stl")


def write_mesh(path: str | os.PathLike[str], vertices: Array, faces: Array) -> None:
    """Write a triangle mesh; the suffix gives the format. The same mesh gives the same bytes.

    The file appears whole or not at all: it is written beside its place and then renamed.

    Args:
        path: ends in one of ``MESH_SUFFIXES``, in either case.
        vertices: (V, 3) float.
        faces: (F, 3) int, indices of vertices, counter-clockwise seen from outside.

    Raises:
        ValueError: unknown suffix, wrong shapes, or faces with vertices that are not there.
        OutputError: no triangles (some formats cannot say so), or the file cannot be written.
        MissingDependencyError: trimesh is not installed.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in MESH_SUFFIXES:
        raise ValueError(
            f"cannot write a mesh to {path.name!r}: the suffix must be one of "
            f"{', '.join(MESH_SUFFIXES)}"
        )
    content = mesh_bytes(vertices, faces, suffix, where=str(path))
    write_whole(path, lambda file: file.write(content))


def mesh_bytes(vertices: Array, faces: Array, suffix: str, where: str | None = None) -> bytes:
    """The content of a triangle mesh's file; otherwise as :func:`write_mesh`.

    Args:
        suffix: one of ``MESH_SUFFIXES``.
        where: for messages.
    """
    _check(vertices, faces, where)
    return _encode(vertices, faces, suffix.removeprefix("."))


def _check(vertices: Array, faces: Array, where: str | None) -> None:
    for name, array in (("vertices", vertices), ("faces", faces)):
        if array.ndim != 2 or array.shape[1] != 3:
            raise ValueError(f"{name} must have the shape (N, 3), not {list(array.shape)}")
    if not len(faces):
        raise OutputError(
            "the mesh has no triangles, so nothing is written",
            where=where,
            advice="the field may have no surface at its level; try another input or seed",
        )
    if int(faces.min()) < 0 or int(faces.max()) >= len(vertices):
        raise ValueError(
            f"faces name vertices from {int(faces.min())} to {int(faces.max())}, "
            f"but there are {len(vertices)}"
        )


def _encode(vertices: Array, faces: Array, kind: str) -> bytes:
    try:
        import trimesh
    except ImportError as error:
        raise MissingDependencyError(
            "writing a mesh needs trimesh", advice="pip install trimesh"
        ) from error
    # Without process=False trimesh merges vertices, which takes seconds for a million triangles.
    mesh = cast(Any, trimesh).Trimesh(vertices, faces, process=False)
    content = cast("bytes | str", mesh.export(file_type=kind))
    return content.encode() if isinstance(content, str) else content
