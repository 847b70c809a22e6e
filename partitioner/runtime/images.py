"""Turn a picture into the tensor that an image input declares: resize, then normalise.

Pillow is imported only to open a file, to convert a Pillow image, or to resize.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, cast

import numpy as np

from partitioner.errors import InputError, MissingDependencyError
from partitioner.runtime.tensors import as_array
from partitioner.specs import Image, TensorSpec

__all__ = ["to_image_tensor"]

Array = np.ndarray[Any, Any]


def to_image_tensor(name: str, value: Any, image: Image, spec: TensorSpec) -> Array:
    """The float32 tensor of shape (1, channels, height, width) for a picture.

    Args:
        name: of the input, for messages.
        value: one of

            - a path to an image file, or a Pillow image, of any size and mode;
            - a uint8 array (height, width[, channels]) of any size;
            - a float array (height, width[, channels]) of values in 0 to 1, of any size;
            - the tensor itself, normalised already: a float array of four dimensions.

            Grey pictures serve inputs with several channels; what is transparent is laid on
            white. An array of another size is resized like a picture.
        image: the declared size and normalisation.
        spec: the declared tensor.

    Raises:
        InputError: not a picture, or a file that cannot be read.
        MissingDependencyError: Pillow is needed and not installed.
    """
    if isinstance(value, (str, os.PathLike)):
        path = os.fspath(cast("str | os.PathLike[str]", value))
        return _normalised(_from_pillow(_open(name, path), image, name), image, spec)
    if _is_pillow(value):
        return _normalised(_from_pillow(value, image, name), image, spec)
    array = _as_array(name, value)
    if array.ndim == 4:
        return _ready_tensor(name, array, spec)
    return _normalised(_from_array(name, array, image), image, spec)


def _as_array(name: str, value: Any) -> Array:
    try:
        return as_array(value)
    except (ValueError, TypeError, RuntimeError, BufferError) as error:
        raise InputError(
            f"image input {name!r} cannot be made an array: {error}",
            advice="give a path, a Pillow image, or an array in the memory of this host",
        ) from error


def _ready_tensor(name: str, array: Array, spec: TensorSpec) -> Array:
    if array.dtype.kind != "f" or array.shape != spec.shape:
        raise InputError(
            f"image input {name!r} is {array.dtype.name}{list(array.shape)}, but a tensor that is "
            f"normalised already must be {spec}",
            advice="give that tensor, or a picture: a path, a Pillow image, or an array of shape "
            "(height, width, channels)",
        )
    return np.asarray(array, spec.dtype, order="C")


def _normalised(pixels: Array, image: Image, spec: TensorSpec) -> Array:
    """(height, width, channels) of values in 0 to 1 -> (1, channels, height, width)."""
    mean = np.asarray(image.mean, np.float32)
    std = np.asarray(image.std, np.float32)
    tensor = np.empty((1, pixels.shape[2], *pixels.shape[:2]), np.float32)
    # Plane by plane, in place: three channels are too short an inner loop, and each array of a
    # picture's size that is made on the way is fetched from the system and given back.
    for channel, plane in enumerate(tensor[0]):
        np.subtract(pixels[:, :, channel], mean[channel], out=plane)
        np.divide(plane, std[channel], out=plane)
    return np.asarray(tensor, spec.dtype, order="C")


# --- arrays -------------------------------------------------------------------------------------


def _from_array(name: str, array: Array, image: Image) -> Array:
    """float32 (height, width, channels) of values in 0 to 1, in the declared size."""
    if array.ndim == 2:
        array = array[:, :, np.newaxis]
    channels = len(image.mean)
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4, channels) or 0 in array.shape:
        raise InputError(
            f"image input {name!r} has the shape {list(array.shape)}",
            advice="give an array (height, width, channels), or the normalised tensor with a "
            "batch dimension in front",
        )
    pixels = _unit_range(name, array)
    pixels = _with_channels(name, pixels, channels)
    return _resized(pixels, image)


def _unit_range(name: str, array: Array) -> Array:
    if array.dtype == np.uint8:
        return np.divide(array, np.float32(255), dtype=np.float32)
    if array.dtype.kind == "b":
        return array.astype(np.float32)
    if array.dtype.kind != "f":
        raise InputError(
            f"image input {name!r} is an array of {array.dtype.name}",
            advice="give uint8 (0 to 255) or floats (0 to 1)",
        )
    if bool(np.any((array < -1e-3) | (array > 1.001))):
        raise InputError(
            f"image input {name!r} is a float array with values from {float(np.nanmin(array)):g} "
            f"to {float(np.nanmax(array)):g}, but must be within 0 to 1",
            advice="divide by 255, or give the normalised tensor with a batch dimension in front",
        )
    return array.astype(np.float32)


def _with_channels(name: str, pixels: Array, channels: int) -> Array:
    """As many channels as the input declares; transparent parts become white."""
    have = pixels.shape[2]
    if have == channels:
        return pixels
    if have == 4:
        alpha = pixels[:, :, 3:]
        pixels = pixels[:, :, :3] * alpha + (1 - alpha)
    elif have == 3 and channels == 4:
        return np.concatenate([pixels, np.ones_like(pixels[:, :, :1])], axis=2)
    if pixels.shape[2] == 1:
        return np.repeat(pixels, channels, axis=2)
    if channels == 1:
        # The luma of ITU-R 601, as Pillow's mode L.
        return pixels @ np.asarray([[0.299], [0.587], [0.114]], np.float32)
    if pixels.shape[2] == channels:
        return pixels
    raise InputError(
        f"image input {name!r} has {have} channels, but {channels} are declared",
        advice=f"give an array (height, width, {channels})",
    )


def _resized(pixels: Array, image: Image) -> Array:
    if pixels.shape[:2] == image.size:
        return pixels
    pillow = _pillow("resize a picture")
    height, width = image.size
    resample = getattr(pillow.Resampling, image.resample.upper())
    planes = [
        np.asarray(pillow.fromarray(np.ascontiguousarray(plane)).resize((width, height), resample))
        for plane in np.moveaxis(pixels, 2, 0)
    ]
    # Bicubic and Lanczos overshoot at edges; 8-bit pictures are clipped likewise.
    return np.clip(np.stack(planes, axis=2), 0, 1)


# --- Pillow -------------------------------------------------------------------------------------


def _pillow(purpose: str) -> Any:
    try:
        return importlib.import_module("PIL.Image")
    except ImportError as error:
        raise MissingDependencyError(
            f"Pillow is needed to {purpose}",
            advice="pip install 'partitioner[image]', or give an array of the declared size",
        ) from error


def _is_pillow(value: Any) -> bool:
    # A Pillow image can only be here if Pillow has been imported.
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(value, module.Image)


def _open(name: str, path: str) -> Any:
    pillow = _pillow("open an image file")
    try:
        with pillow.open(path) as picture:
            picture.load()
            return picture
    except Exception as error:  # Pillow's decoders raise many types on a damaged file.
        raise InputError(
            f"image input {name!r}: {path!r} cannot be read: {error}",
            advice="give a path to an image file that Pillow can read",
        ) from error


def _from_pillow(picture: Any, image: Image, name: str) -> Array:
    """float32 (height, width, channels) of values in 0 to 1, in the declared size.

    Eight-bit pictures are resized as such, as all of Pillow's users do.
    """
    operations = importlib.import_module("PIL.ImageOps")
    pillow = _pillow("convert a picture")
    picture = operations.exif_transpose(picture)
    if picture.mode.startswith("I;16") or picture.mode == "I":
        wide = np.asarray(picture).astype(np.float32) / np.float32(65535)
        return _from_array(name, np.clip(wide, 0, 1), image)
    if picture.mode == "F":
        return _from_array(name, np.asarray(picture), image)
    picture = _without_alpha(pillow, picture, len(image.mean))
    height, width = image.size
    if picture.size != (width, height):
        resample = getattr(pillow.Resampling, image.resample.upper())
        picture = picture.resize((width, height), resample)
    return _from_array(name, np.asarray(picture), image)


def _without_alpha(pillow: Any, picture: Any, channels: int) -> Any:
    if channels == 4:
        return picture.convert("RGBA")
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = pillow.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = pillow.alpha_composite(white, picture)
    return picture.convert("L" if channels == 1 else "RGB")
