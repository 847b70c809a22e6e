"""Where a host keeps what can be made again: measurements, compiled blobs, downloads."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

__all__ = [
    "LIMIT_VARIABLE",
    "PARTIAL",
    "VARIABLE",
    "cache_dir",
    "cache_limit",
    "drop_abandoned",
    "is_private",
]

#: Where the cache is; by default ``~/.cache/partitioner``.
VARIABLE = "PARTITIONER_CACHE"

#: How large each backend's part of it may become, in bytes; 0 to keep nothing.
LIMIT_VARIABLE = "PARTITIONER_CACHE_BYTES"

#: How names begin of files and folders that are being written.
PARTIAL = "partial-"

_LIMIT = 4 * 2**30
#: Nothing takes so many seconds to write: who began it was killed.
_ABANDONED = 24 * 3600


def cache_dir(kind: str) -> Path:
    """The folder for things of one kind; it may not exist.

    ``$PARTITIONER_CACHE``, else ``partitioner`` in ``$XDG_CACHE_HOME``, which is ``~/.cache``
    unless it is set (XDG base directory specification).
    """
    own = os.environ.get(VARIABLE)
    if own:
        return Path(own) / kind
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "partitioner" / kind


def cache_limit() -> int:
    """Bytes that one backend may keep: ``$PARTITIONER_CACHE_BYTES``, else 4 GiB."""
    text = os.environ.get(LIMIT_VARIABLE, "")
    return int(text) if text.isdigit() else _LIMIT


def is_private(folder: Path) -> bool:
    """Whether it is this user's, and nobody else may write into it.

    Raises:
        OSError: it is not there, or cannot be looked at.
    """
    status = folder.stat()
    return status.st_uid == os.getuid() and not status.st_mode & 0o022


def drop_abandoned(folder: Path) -> None:
    """Remove what processes that were killed have left half-written.

    Raises:
        OSError: the folder cannot be read.
    """
    for path in folder.glob(f"{PARTIAL}*"):
        # Another process may be as quick.
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - _ABANDONED:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
