"""A bundle whose answers tell which version of it gave them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from partitioner.plan import Call
from partitioner.specs import InputSpec
from tests.bundles import Maker, node, spec

__all__ = ["make_scaled"]


def make_scaled(path: Path, factor: float) -> Path:
    """y is x times ``factor``."""
    maker = Maker(path)
    maker.onnx(
        "scale",
        {"x": "float32[1, 4]"},
        {"y": "float32[1, 4]"},
        [node("Mul", ["x", "factor"], ["y"])],
        weights={"factor": np.full((1, 4), factor, np.float32)},
    )
    return maker.write(
        inputs=[InputSpec("x", spec("float32[1, 4]"))],
        steps=[Call("scale", ("x",), ("y",))],
        outputs={"y": "y"},
    )
