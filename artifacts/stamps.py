"""Which files this host knows the content of, so that no process hashes them again.

A stamp is an empty file in the user's own cache whose name is the hash of what was seen: the boot
of the host, the file's device, inode, size and times of change, and the digest that its content
had. Whoever writes to a file, or puts another in its place, changes one of these; the time of the
last change of a file (ctime) cannot be set. What a stamp cannot see is a disk that gives other
bytes than were written to it, between two reads of one boot; ``verify="always"`` can.
"""

from __future__ import annotations

import functools
import hashlib
import os
from contextlib import suppress
from pathlib import Path

from partitioner.artifacts.cachedir import cache_dir, cache_limit, is_private
from partitioner.artifacts.hashed import identity
from partitioner.artifacts.jsontext import dumps

__all__ = ["LEAST_BYTES", "is_stamped", "leave_stamp"]

#: Smaller files are hashed in less time than a stamp takes.
LEAST_BYTES = 2**20

#: A file that was written to this lately could be written to again at what counts as the same time.
_SETTLED_NS = 2 * 10**9

_MOST_STAMPS = 1024
_BOOT = Path("/proc/sys/kernel/random/boot_id")


def is_stamped(info: os.stat_result, digest: str) -> bool:
    """Whether a process of this user has found the file to have that digest since the host began.

    Args:
        info: of the file, from its open descriptor.
    """
    if not _is_worth(info):
        return False
    folder = cache_dir("hashed")
    # A folder that is not there, or that may not be read, holds no stamps.
    with suppress(OSError):
        return is_private(folder) and (folder / _name(info, digest)).exists()
    return False


def leave_stamp(info: os.stat_result, digest: str, looked: int) -> None:
    """Note for other processes that the file has that digest.

    Nothing is noted of a file that has just been written, nor where the cache cannot be written to,
    which is logged.

    Args:
        info: as of :func:`is_stamped`, taken before the file was read.
        looked: a time before it was taken, in nanoseconds since 1970.
    """
    if not _is_worth(info) or looked - max(info.st_mtime_ns, info.st_ctime_ns) < _SETTLED_NS:
        return
    folder = cache_dir("hashed")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if is_private(folder):
            (folder / _name(info, digest)).touch()
            _prune(folder)
    except OSError as error:
        import logging  # Not for those who need none.

        message = "blobs will be hashed in each process: no stamps in %s: %s"
        logging.getLogger("partitioner").info(message, folder, error)


def _is_worth(info: os.stat_result) -> bool:
    return info.st_size >= LEAST_BYTES and bool(_boot()) and cache_limit() > 0


def _name(info: os.stat_result, digest: str) -> str:
    return hashlib.sha256(dumps([_boot(), *identity(info), digest])).hexdigest()


@functools.cache
def _boot() -> str:
    """What names this start of the host; empty where nothing does, and no stamps are left."""
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _prune(folder: Path) -> None:
    """Remove the oldest stamps: those of earlier boots mean nothing, others are made again."""
    found: list[tuple[int, Path]] = []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            found.append((path.stat().st_mtime_ns, path))
    for _, path in sorted(found)[: max(0, len(found) - _MOST_STAMPS)]:
        path.unlink(missing_ok=True)
