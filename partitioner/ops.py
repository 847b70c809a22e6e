"""Host ops that come with the package. A bundle that names one runs wherever this is installed."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from partitioner.hostops import host_op

__all__ = ["marching_cubes"]

Array = np.ndarray[Any, Any]


@host_op(
    outputs={"vertices": ("float32", (None, 3)), "faces": ("int32", (None, 3))},
    requires=("scikit-image",),
)
def marching_cubes(sdf: Array, *, level: float = 0.0) -> dict[str, Array]:
    """Triangulate the surface on which a signed distance field has the value ``level``.

    Args:
        sdf: (X, Y, Z), negative inside the shape.
        level: the value on the surface.

    Returns:
        ``vertices`` (V, 3) float32 as index / side * 2 - 1, so within -1..1; ``faces`` (F, 3)
        int32, counter-clockwise seen from outside. A field without a surface gives none.

    Raises:
        ValueError: the field is not three-dimensional, has a side below 2, or is not finite.
    """
    from skimage import measure

    if sdf.ndim != 3 or min(sdf.shape) < 2:
        raise ValueError(
            f"marching_cubes takes a field (X, Y, Z) with sides of at least 2, "
            f"not one of shape {list(sdf.shape)}"
        )
    low, high = float(sdf.min()), float(sdf.max())
    if not np.isfinite(low) or not np.isfinite(high):
        raise ValueError("marching_cubes got a field with values that are NaN or infinite")
    if not low < level < high:
        return {"vertices": np.zeros((0, 3), np.float32), "faces": np.zeros((0, 3), np.int32)}
    # scikit-image refuses read-only arrays. Of its two windings, "descent" is counter-clockwise
    # seen from where the field is positive.
    writable = np.require(sdf, np.float32, ["C", "W"])
    found = cast(Any, measure).marching_cubes(writable, level, gradient_direction="descent")
    vertices, faces = cast("tuple[Array, Array]", found[:2])
    sides = np.asarray(sdf.shape, np.float32)
    return {
        "vertices": (vertices / sides * 2 - 1).astype(np.float32, copy=False),
        "faces": np.ascontiguousarray(faces, np.int32),
    }
