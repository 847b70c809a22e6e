"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from partitioner.errors import OutputError

__all__ = ["check_target", "write_whole"]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_target(path: str | os.PathLike[str]) -> None:
    """Refuse, before work that takes long, a place where no file can be written after it.

    Raises:
        OutputError: a directory is there, or the folder is missing or is none.
    """
    target = Path(path)
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not target.absolute().parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    except OSError as error:
        raise _refusal(target, error) from error


def write_whole(
    path: str | os.PathLike[str], write: Callable[[BinaryIO], Any], *, mode: int = 0o666
) -> Path:
    """Write a file beside its place, then rename it; replaces what is there.

    A link stays a link: the file that it names is replaced. Devices and pipes, such as
    ``/dev/stdout``, are written to as they are.

    Args:
        write: is given the open file.
        mode: permissions of the file, less the process's umask.

    Raises:
        OutputError: the file system refuses: no folder, a directory, no room, no permission.
    """
    given = Path(path)
    try:
        if _is_special(given):
            with given.open("wb") as file:
                write(file)
            return given
        check_target(given)
        target = Path(os.path.realpath(given))
        # Short: a name that is as long as names may be has no room for more.
        partial = target.with_name(f".{uuid.uuid4().hex}.partial")
        try:
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as f:
                write(f)
            os.replace(partial, target)
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
    except OSError as error:
        raise _refusal(given, error) from error
    return given


def _is_special(path: Path) -> bool:
    """Whether a device, pipe or socket is there: to rename a file over it would destroy it."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _refusal(target: Path, error: OSError) -> OutputError:
    if error.errno == errno.EISDIR:
        advice = "give the name of a file: a directory of that name is there"
    elif error.errno in (errno.ENOENT, errno.ENOTDIR):
        advice = f"make the folder {target.parent} first, or choose another"
    elif error.errno in _FULL:
        advice = "make room, or choose a place that has more"
    else:
        advice = "choose a place that can be written and has room"
    return OutputError(
        f"{target} cannot be written: {error.strerror or error}", where=str(target), advice=advice
    )
