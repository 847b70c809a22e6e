"""What values look like: tensors by dtype and shape, and how an input is made.

Data types only, shared by build and runtime; nothing here imports torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

__all__ = ["DTYPES", "Image", "InputSpec", "Noise", "TensorSpec", "fixed_nbytes", "itemsize"]

#: The dtypes a program may hold, by their NumPy names. ``bfloat16`` has no NumPy type of its own;
#: it never crosses the border of a bundle.
DTYPES = (
    "bool",
    "uint8",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "bfloat16",
    "float32",
    "float64",
)

_SIZES = {"bool": 1, "bfloat16": 2}


@dataclass(frozen=True)
class TensorSpec:
    """A dtype (NumPy name) and a shape.

    A dimension is an int, a name for a symbolic dimension, or None for a size that only the data
    decide (the number of triangles of a mesh).
    """

    dtype: str
    shape: tuple[int | str | None, ...]

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join('?' if d is None else str(d) for d in self.shape)}]"


def itemsize(dtype: str) -> int:
    """Bytes of one number of a dtype of :data:`DTYPES`."""
    return _SIZES.get(dtype) or int(re.sub(r"\D", "", dtype)) // 8


def fixed_nbytes(spec: TensorSpec) -> int | None:
    """Bytes of a tensor; None unless every dimension is a number."""
    size = itemsize(spec.dtype)
    for dim in spec.shape:
        if not isinstance(dim, int):
            return None
        size *= dim
    return size


@dataclass(frozen=True)
class Image:
    """An input that is a picture, resized and normalised on the host.

    The pipeline's tensor is float32 of shape (1, channels, height, width):
    ``(pixel / 255 - mean) / std`` per channel.

    Args:
        size: (height, width) in pixels.
        mean: per channel, of values in 0..1; its length is the number of channels.
        std: per channel.
        resample: filter used where the picture has another size (Pillow's names).
    """

    size: tuple[int, int]
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    resample: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bicubic"


@dataclass(frozen=True)
class Noise:
    """An input that the runtime draws from the request's seed unless the caller gives it.

    Noise inputs are drawn first, in the order of the pipeline's inputs, and then the draws that
    the pipeline makes itself, in the order in which it makes them.

    Args:
        distribution: ``normal`` (mean 0, standard deviation 1) or ``uniform`` (0 to 1).
        scale: factor on the drawn numbers.
    """

    distribution: Literal["normal", "uniform"] = "normal"
    scale: float = 1.0


@dataclass(frozen=True)
class InputSpec:
    """One input of a bundle: name, tensor, and how it is made when it is not a plain array."""

    name: str
    tensor: TensorSpec
    how: Image | Noise | None = None
    used: bool = True
