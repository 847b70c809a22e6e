"""Which files this process knows the content of, so that none is hashed twice."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["hashing", "identity", "is_hashed", "remember"]

#: Device, inode, size, times of change, digest.
_hashed: set[tuple[int, int, int, int, int, str]] = set()
_lock = threading.Lock()

#: By digest: held by the thread that hashes it.
_turns: dict[str, threading.Lock] = {}


def identity(info: os.stat_result) -> tuple[int, int, int, int, int]:
    """What changes when a file is replaced or written to: device, inode, size, both times."""
    return (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)


def is_hashed(info: os.stat_result, digest: str) -> bool:
    """Whether the file has been found to have that digest, and not been touched since."""
    with _lock:
        return (*identity(info), digest) in _hashed


def remember(info: os.stat_result, digest: str) -> None:
    """Note that the file has that digest."""
    with _lock:
        _hashed.add((*identity(info), digest))


@contextmanager
def hashing(digest: str) -> Generator[None]:
    """Hash a blob alone in this process: who wants it meanwhile waits, and finds it hashed."""
    with _lock:
        turn = _turns.setdefault(digest, threading.Lock())
    with turn:
        yield
