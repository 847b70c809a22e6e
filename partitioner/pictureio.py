"""Pictures that pipelines give, as files. Imports Pillow when it writes, and no torch."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from partitioner.errors import MissingDependencyError

__all__ = ["PICTURE_SUFFIXES", "is_picture", "picture_bytes"]

Array = np.ndarray[Any, Any]

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def is_picture(array: Array) -> bool:
    """Whether it has the shape of pictures: float (N, 1 or 3, height, width)."""
    return array.ndim == 4 and array.shape[1] in (1, 3) and array.dtype.kind == "f"


def picture_bytes(array: Array, suffix: str) -> bytes:
    """The content of a picture's file.

    Args:
        array: float (N, 1 or 3, height, width) of values in 0 to 1, as diffusers pipelines give
            with ``output_type="pt"``; the first of them is written.
        suffix: one of ``PICTURE_SUFFIXES``.

    Raises:
        MissingDependencyError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependencyError(
            "writing a picture needs Pillow", advice="pip install 'partitioner[image]'"
        ) from error
    pixels = np.clip(array[0].transpose(1, 2, 0) * 255, 0, 255).round().astype(np.uint8)
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    kind = {".jpg": "JPEG", ".jpeg": "JPEG"}.get(suffix, suffix[1:].upper())
    content = io.BytesIO()
    picture.save(content, kind)
    return content.getvalue()
