"""Opening files that may have been put there by an enemy."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from partitioner.artifacts.faults import damaged

__all__ = ["check_directory", "open_plain", "read_plain"]

# NONBLOCK: a pipe that took the file's place since it was looked at must not hang us.
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


@contextmanager
def open_plain(path: Path) -> Generator[tuple[FileIO, os.stat_result]]:
    """Open a plain file, unbuffered; links, devices and pipes are refused, not opened.

    Raises:
        BundleError: not a plain file, missing, or it cannot be read.
    """
    try:
        _check_kind(path, path.lstat())
        with os.fdopen(os.open(path, _FLAGS), "rb", buffering=0) as file:
            info = os.fstat(file.fileno())
            _check_kind(path, info)
            yield file, info
    except OSError as error:
        raise _unreadable(path, error) from error


def read_plain(path: Path, limit: int) -> bytes:
    """The content of a plain file of at most ``limit`` bytes; a larger one is not read.

    Raises:
        BundleError: as :func:`open_plain`, or larger.
    """
    with open_plain(path) as (file, info):
        if info.st_size > limit:
            raise damaged(f"{info.st_size} bytes, where at most {limit} are read", path)
        data = b"".join(iter(lambda: file.read(2**20), b""))
    if len(data) != info.st_size:
        raise damaged("the file changed while it was read", path)
    return data


def check_directory(path: Path) -> None:
    """Refuse a directory of the bundle that is none, or a link to one elsewhere.

    Raises:
        BundleError: it is.
    """
    try:
        mode = path.lstat().st_mode
    except OSError as error:
        raise _unreadable(path, error) from error
    if not stat.S_ISDIR(mode):
        raise damaged("a directory of the bundle is missing: something else has its name", path)


def _check_kind(path: Path, info: os.stat_result) -> None:
    if not stat.S_ISREG(info.st_mode):
        raise damaged("a file of the bundle is not a plain file", path)


def _unreadable(path: Path, error: OSError) -> Exception:
    return damaged(f"a file of the bundle cannot be read: {error.strerror or error}", path)
