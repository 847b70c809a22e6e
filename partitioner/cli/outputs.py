"""What a run gives, as files. Each file appears whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from partitioner.arrayfiles import write_npy, write_npz
from partitioner.errors import OutputError
from partitioner.pictureio import PICTURE_SUFFIXES, is_picture, picture_bytes
from partitioner.wholefiles import check_target, write_whole

__all__ = ["check_output", "flat_outputs", "write_outputs", "write_text"]

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Array]

_MESHES = (".glb", ".obj", ".ply", ".stl")


def flat_outputs(outputs: Mapping[str, Any]) -> dict[str, Array]:
    """Outputs of which each request has one of its own as ``NAME.0``, ``NAME.1`` and so on."""
    flat: dict[str, Array] = {}
    for name, value in outputs.items():
        if isinstance(value, list):
            flat |= {f"{name}.{row}": array for row, array in enumerate(cast("list[Array]", value))}
        else:
            flat[name] = value
    return flat


def check_output(target: Path) -> None:
    """Refuse, before a run, a place at which its outputs cannot be written after it.

    Raises:
        OutputError: a suffix that is not known, no folder, a directory by the name of a file or a
            file by that of a directory.
    """
    suffix = target.suffix.lower()
    if suffix in (*_MESHES, *PICTURE_SUFFIXES, ".npz"):
        check_target(target)
    elif suffix:
        raise _unknown_suffix(target)
    elif target.exists() and not target.is_dir():
        raise OutputError(
            f"{target} is a file, and no directory for arrays",
            where=str(target),
            advice="give a name with a suffix, such as all.npz, or the name of a directory",
        )


def write_outputs(target: Path, outputs: Mapping[str, Any]) -> list[Path]:
    """Write by the target's suffix: a mesh, a picture, all arrays, or a directory of them.

    Of several requests each has a mesh or picture of its own: ``chair.0.glb``, ``chair.1.glb``.

    Args:
        outputs: arrays, or lists with one for each request.

    Raises:
        OutputError: the outputs are not of that kind, or it cannot be written.
    """
    suffix = target.suffix.lower()
    try:
        if suffix in _MESHES:
            return [_mesh(*one) for one in _each(target, outputs)]
        if suffix in PICTURE_SUFFIXES:
            return [_picture(*one) for one in _each(target, outputs)]
        flat = flat_outputs(outputs)
        if suffix == ".npz":
            return [write_whole(target, lambda file: write_npz(file, flat))]
        if suffix == "":
            return _directory(target, flat)
    except OSError as error:
        raise OutputError(
            f"the output cannot be written: {error.strerror or error}",
            where=str(target),
            advice="choose a place that can be written and has room",
        ) from error
    raise _unknown_suffix(target)


def write_text(target: Path, text: str) -> None:
    """Write a text file that appears whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    write_whole(target, lambda file: file.write(text.encode()))


def _each(target: Path, outputs: Mapping[str, Any]) -> Iterator[tuple[Path, Arrays]]:
    """A file and its outputs for each request, where these are several."""
    lists = {name: len(value) for name, value in outputs.items() if isinstance(value, list)}
    pictures = [len(a) for a in outputs.values() if not isinstance(a, list) and is_picture(a)]
    rows = max([*lists.values(), *pictures], default=1)
    if not lists and rows == 1:
        yield target, outputs
        return
    for row in range(rows):
        own = {n: v[row] if n in lists else _row(v, row, rows) for n, v in outputs.items()}
        yield target.with_name(f"{target.stem}.{row}{target.suffix}"), own


def _row(array: Array, row: int, rows: int) -> Array:
    return array[row : row + 1] if array.shape[:1] == (rows,) else array


def _unknown_suffix(target: Path) -> OutputError:
    return OutputError(
        f"outputs are not written as {target.suffix.lower()!r}",
        where=str(target),
        advice=f"use {', '.join((*_MESHES, *PICTURE_SUFFIXES, '.npz'))}, or a directory",
    )


def _directory(target: Path, outputs: Arrays) -> list[Path]:
    # Names are the bundle's, which may be anybody's: none leads out of the directory.
    wrong = next((name for name in outputs if Path(name).name != name or "\0" in name), None)
    if wrong is not None:
        raise OutputError(
            f"the output {wrong!r} has no name that a file can have",
            where=str(target),
            advice="write .npz instead, which holds arrays by any name",
        )
    target.mkdir(parents=True, exist_ok=True)
    return [
        write_whole(target / f"{name}.npy", lambda file, a=array: write_npy(file, a))
        for name, array in outputs.items()
    ]


def _mesh(target: Path, outputs: Arrays) -> Path:
    from partitioner.meshio import write_mesh

    if not {"vertices", "faces"} <= set(outputs):
        raise OutputError(
            f"the bundle gives {', '.join(outputs)}, not vertices and faces",
            where=str(target),
            advice="write .npz instead",
        )
    write_mesh(target, outputs["vertices"], outputs["faces"])
    return target


def _picture(target: Path, outputs: Arrays) -> Path:
    found = next((a for a in outputs.values() if is_picture(a)), None)
    if found is None:
        raise OutputError(
            "the bundle gives no output of shape (1, 3, height, width)",
            where=str(target),
            advice="write .npz instead",
        )
    content = picture_bytes(found, target.suffix.lower())
    return write_whole(target, lambda file: file.write(content))
