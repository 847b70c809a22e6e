"""Pictures as inputs."""

from __future__ import annotations

import importlib
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from partitioner.errors import InputError, MissingDependencyError
from partitioner.runtime.images import to_image_tensor
from partitioner.specs import Image, TensorSpec

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (4, 6, 3), np.uint8)
GREY = RNG.integers(0, 256, (4, 6), np.uint8)


def convert(value: Any, channels: int = 3, size: tuple[int, int] = (4, 6), **how: Any) -> Array:
    """Values in 0 to 1 unless the normalisation is given."""
    image = Image(size, **({"mean": (0.0,) * channels, "std": (1.0,) * channels} | how))
    spec = TensorSpec("float32", (1, channels, *size))
    tensor = to_image_tensor("image", value, image, spec)
    assert ("float32", spec.shape) == (tensor.dtype.name, tensor.shape)
    assert tensor.flags.c_contiguous
    return tensor


def planes(pixels: Array) -> Array:
    """(height, width, channels) -> (1, channels, height, width)."""
    return pixels.transpose(2, 0, 1)[np.newaxis]


EXPECTED = planes(RGB / 255)


def test_bytes_floats_pictures_and_files_agree(tmp_path: Path) -> None:
    picture = PIL.Image.fromarray(RGB)
    picture.save(tmp_path / "picture.png")
    for value in (
        RGB,
        RGB / 255,
        (RGB / 255).astype(np.float32),
        picture,
        tmp_path / "picture.png",
        str(tmp_path / "picture.png"),
    ):
        np.testing.assert_allclose(EXPECTED, convert(value), atol=1e-6)


def test_normalisation_is_that_of_whole_arrays_in_float32() -> None:
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    unit = RGB.astype(np.float32) / np.float32(255)
    expected = planes((unit - np.asarray(mean, np.float32)) / np.asarray(std, np.float32))
    np.testing.assert_array_equal(expected, convert(RGB, mean=mean, std=std))


def test_normalisation() -> None:
    expected = (EXPECTED - np.array([0.5, 0.4, 0.3]).reshape(1, 3, 1, 1)) / 0.25
    actual = convert(RGB, mean=(0.5, 0.4, 0.3), std=(0.25, 0.25, 0.25))

    np.testing.assert_allclose(expected, actual, atol=1e-5)


def test_a_tensor_that_is_normalised_already() -> None:
    tensor = RNG.standard_normal((1, 3, 4, 6)).astype(np.float32)

    assert tensor is to_image_tensor(
        "image", tensor, Image((4, 6)), TensorSpec("float32", (1, 3, 4, 6))
    )
    np.testing.assert_array_equal(tensor, convert(tensor.astype(np.float64)))
    for wrong in (tensor[:, :2], tensor.astype(np.int64), np.concatenate([tensor, tensor])):
        with pytest.raises(InputError, match="normalised already"):
            convert(wrong)


def test_grey_serves_three_channels() -> None:
    expected = np.repeat(GREY[np.newaxis, np.newaxis] / 255, 3, axis=1)
    for value in (GREY, GREY[:, :, np.newaxis], PIL.Image.fromarray(GREY)):
        np.testing.assert_allclose(expected, convert(value), atol=1e-6)


def test_colour_becomes_grey_where_one_channel_is_declared() -> None:
    expected = np.asarray(PIL.Image.fromarray(RGB).convert("L")) / 255

    np.testing.assert_allclose(expected[np.newaxis, np.newaxis], convert(RGB, 1), atol=0.003)
    np.testing.assert_allclose(
        expected[np.newaxis, np.newaxis], convert(PIL.Image.fromarray(RGB), 1), atol=1e-6
    )


def test_what_is_transparent_is_laid_on_white() -> None:
    rgba = np.concatenate([RGB, np.full((4, 6, 1), 255, np.uint8)], axis=2)
    rgba[0, 0, 3] = 0
    rgba[0, 1, 3] = 51
    expected = RGB / 255
    expected[0, 0] = 1
    expected[0, 1] = expected[0, 1] * 0.2 + 0.8
    for value in (rgba, rgba / 255, PIL.Image.fromarray(rgba)):
        np.testing.assert_allclose(planes(expected), convert(value), atol=0.005)


def test_four_channels_where_four_are_declared() -> None:
    rgba = RNG.integers(0, 256, (4, 6, 4), np.uint8)
    for value in (rgba, PIL.Image.fromarray(rgba)):
        np.testing.assert_allclose(planes(rgba / 255), convert(value, 4), atol=1e-6)
    np.testing.assert_array_equal(np.ones((4, 6)), convert(RGB, 4)[0, 3])


def test_resizing_is_pillows() -> None:
    large = RNG.integers(0, 256, (9, 13, 3), np.uint8)
    for name in ("nearest", "bilinear", "bicubic", "lanczos"):
        resample = PIL.Image.Resampling[name.upper()]
        resized = np.asarray(PIL.Image.fromarray(large).resize((6, 4), resample))
        expected = planes(resized / 255)
        # Eight-bit pictures are rounded to eight bits, arrays of floats are not.
        exact = convert(PIL.Image.fromarray(large), resample=name)
        np.testing.assert_allclose(expected, exact, atol=1e-6)
        np.testing.assert_allclose(expected, convert(large, resample=name), atol=0.005)


def test_odd_modes_of_pillow() -> None:
    picture = PIL.Image.fromarray(RGB)
    palette = picture.convert("P", palette=PIL.Image.Palette.ADAPTIVE)
    np.testing.assert_allclose(EXPECTED, convert(palette), atol=0.02)
    wide = PIL.Image.fromarray(GREY.astype(np.uint16) * 257)
    np.testing.assert_allclose(convert(GREY), convert(wide), atol=1e-6)
    floats = PIL.Image.fromarray((GREY / 255).astype(np.float32))
    np.testing.assert_allclose(convert(GREY), convert(floats), atol=1e-6)
    bits = PIL.Image.fromarray(GREY > 127)
    np.testing.assert_array_equal(convert(GREY > 127), convert(bits))
    assert (1, 3, 4, 6) == convert(picture.convert("CMYK")).shape


def test_the_camera_says_which_side_is_up(tmp_path: Path) -> None:
    picture = PIL.Image.fromarray(RGB)
    exif = picture.getexif()
    exif[0x0112] = 3  # upside down
    picture.save(tmp_path / "photo.png", exif=exif)

    np.testing.assert_allclose(EXPECTED[:, :, ::-1, ::-1], convert(tmp_path / "photo.png"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (RGB.astype(np.int64), "an array of int64"),
        (RGB.astype(np.float32), "within 0 to 1"),
        (np.zeros((4, 6, 2), np.uint8), r"the shape \[4, 6, 2\]"),
        (np.zeros(4, np.uint8), r"the shape \[4\]"),
        (np.zeros((0, 6, 3), np.uint8), r"the shape \[0, 6, 3\]"),
        ("no/such/file.png", "cannot be read"),
    ],
)
def test_refused(value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        convert(value)
    assert caught.value.advice


def test_a_file_that_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(InputError, match="cannot be read"):
        convert(tmp_path / "x.png")


def test_a_picture_that_is_a_bomb(tmp_path: Path) -> None:
    """A few hundred bytes that say to be 10 gigapixels: refused before they are unpacked."""
    ihdr = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", ihdr), (b"IDAT", zlib.compress(bytes(100_000))), (b"IEND", b""))
    data = b"\x89PNG\r\n\x1a\n"
    for name, body in chunks:
        crc = struct.pack(">I", zlib.crc32(name + body))
        data += struct.pack(">I", len(body)) + name + body + crc
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(InputError, match="decompression bomb"):
        convert(tmp_path / "x.png")


def test_without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(importlib, "import_module", missing)

    np.testing.assert_allclose(EXPECTED, convert(RGB), atol=1e-6)
    with pytest.raises(MissingDependencyError, match="Pillow is needed to resize") as caught:
        convert(RGB, size=(8, 8))
    assert "partitioner[image]" in str(caught.value.advice)
    with pytest.raises(MissingDependencyError, match="to open an image file"):
        convert("picture.png")
