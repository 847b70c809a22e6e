"""Pictures that come as files, decoded within limits."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from partitioner.errors import MissingDependencyError
from partitioner.serve.failures import ProtocolError
from partitioner.specs import Image, InputSpec

__all__ = ["decode_picture", "with_pictures"]

Array = np.ndarray[Any, Any]

#: Of Pillow's decoders, those of formats that people send.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")


def decode_picture(name: str, data: bytes, most: int) -> Any:
    """A Pillow image out of a file's bytes.

    Args:
        name: of the input.
        most: pixels; what has more is refused before it is decoded.

    Raises:
        ProtocolError: not a picture, or too large.
        MissingDependencyError: Pillow is not installed.
    """
    try:
        import PIL.Image
    except ImportError as error:
        raise MissingDependencyError(
            "pictures as files need Pillow on the server", advice="send an array instead"
        ) from error
    try:
        picture = PIL.Image.open(io.BytesIO(data), formats=_FORMATS)
        width, height = picture.size
        if width * height <= most:
            picture.load()
            return picture
    except PIL.UnidentifiedImageError as error:
        raise ProtocolError(
            f"input {name!r} is no picture", advice=f"send a file of {', '.join(_FORMATS)}"
        ) from error
    except Exception as error:  # Pillow's decoders raise many types
        raise ProtocolError(f"input {name!r} is no picture that can be read: {error}") from error
    raise ProtocolError(
        f"input {name!r} is a picture of {width} x {height}, more than the {most} pixels that it "
        "may have, or has left after others"
    )


def with_pictures(
    specs: Sequence[InputSpec], arrays: dict[str, Array], most: int
) -> dict[str, Any]:
    """Inputs of BYTES, decoded: one picture, or a list where these are several.

    Args:
        most: pixels of an input, of all its pictures together.

    Raises:
        ProtocolError: BYTES for an input that is no picture, or no picture in them.
        MissingDependencyError: Pillow is not installed.
    """
    images = {spec.name for spec in specs if isinstance(spec.how, Image)}
    inputs: dict[str, Any] = dict(arrays)
    for name, array in arrays.items():
        if array.dtype != object:
            continue
        if name not in images:
            raise ProtocolError(f"input {name!r} takes numbers, not BYTES")
        pictures = _decoded(name, array.ravel(), most)
        inputs[name] = pictures[0] if len(pictures) == 1 else pictures
    return inputs


def _decoded(name: str, files: Iterable[bytes], most: int) -> list[Any]:
    pictures: list[Any] = []
    for data in files:
        pictures.append(decode_picture(name, data, most))
        # A few bytes may be many pixels, so many pictures get no more than one may have.
        most -= pictures[-1].width * pictures[-1].height
    if not pictures:
        raise ProtocolError(f"input {name!r} holds no picture")
    return pictures
