"""Arrays in files of NumPy's formats: ``.npy`` has one, ``.npz`` several by name."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from partitioner.errors import InputError, OutputError

__all__ = ["read_npy", "read_npz", "write_npy", "write_npz"]

Array = np.ndarray[Any, Any]

#: What is raised on the way through a damaged file; each as an error of this project.
_DAMAGE = (
    EOFError,
    MemoryError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_npy(path: str | os.PathLike[str]) -> Array:
    """The array of an ``.npy`` file. Nothing in it is ever run: pickled objects are refused.

    Raises:
        InputError: no such file, another format, a truncated file, an array of objects.
    """
    try:
        with Path(path).open("rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except _DAMAGE as error:
        raise _unreadable(path, "an .npy file", error) from error


def read_npz(path: str | os.PathLike[str], name: str = "") -> Array:
    """One array of an ``.npz`` file. Nothing in it is ever run: pickled objects are refused.

    Args:
        name: of the array; it may be left out where the file has one only.

    Raises:
        InputError: no such file or array, another format, a damaged file, an array of objects,
            or no name where the file has several.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            suffixed = [entry for entry in archive.namelist() if entry.endswith(".npy")]
            chosen = _chosen(path, [entry.removesuffix(".npy") for entry in suffixed], name)
            with archive.open(f"{chosen}.npy") as file:
                array = np.lib.format.read_array(file, allow_pickle=False)
                # The sum of an archive's entry is looked at when its end is read.
                file.read(1)
                return array
    except _DAMAGE as error:
        raise _unreadable(path, "an .npz file", error) from error


def write_npy(file: BinaryIO, array: Array) -> None:
    """Write one array."""
    np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)


def write_npz(file: BinaryIO, arrays: Mapping[str, Array]) -> None:
    """Write arrays as ``np.savez`` does, but by any name: to it ``file`` is a parameter.

    The same arrays give the same bytes.

    Raises:
        OutputError: a name that an archive cannot hold.
    """
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            # Of a fixed date, not today's.
            entry = zipfile.ZipInfo(f"{name}.npy")
            if entry.filename != f"{name}.npy":
                raise OutputError(f"an .npz file cannot hold an array by the name {name!r}")
            with archive.open(entry, "w", force_zip64=True) as part:
                np.lib.format.write_array(part, np.asanyarray(array), allow_pickle=False)


def _chosen(path: str | os.PathLike[str], names: list[str], name: str) -> str:
    if not names:
        raise InputError(f"{path} has no arrays", where=str(path), advice="write it by np.savez")
    if name in names:
        return name
    if not name and len(names) == 1:
        return names[0]
    what = f"{path} has no array {name!r}" if name else f"{path} has several arrays"
    raise InputError(
        what, where=str(path), advice=f"it has {', '.join(names)}: say {path}:{names[0]}"
    )


def _unreadable(path: str | os.PathLike[str], kind: str, error: BaseException) -> InputError:
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        what, advice = error.strerror, "give a file that is there and can be read"
    elif "allow_pickle" in text:
        what = "it holds Python objects, which are never unpickled"
        advice = "convert the array first: array.astype(np.float32)"
    else:
        what = text or type(error).__name__
        advice = f"the file is damaged, cut off, or not {kind}: write it again"
    return InputError(f"{path} cannot be read as {kind}: {what}", where=str(path), advice=advice)
