"""Memory-mapped weights that a library has made its own copy of: give their pages back.

A library that repacks weights reads every page of the file that it has mapped, and keeps the
mapping. The pages count for the process until the host is short of memory, though nothing reads
them again. They are clean: if something does, they come back from the file.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = ["Mapping", "file_mappings", "give_back_pages"]

#: Of madvise(2) on Linux, on every architecture.
_MADV_DONTNEED = 4

#: Address, bytes, device and inode.
Mapping = tuple[int, int, int, int]


def file_mappings() -> frozenset[Mapping]:
    """The read-only mappings of files of this process; none on systems other than Linux."""
    return frozenset(_mappings()) if sys.platform == "linux" else frozenset()


def give_back_pages(files: Iterable[Path], before: frozenset[Mapping]) -> int:
    """Let go of the pages of mappings of these files that have been made since.

    Of mappings that cannot be written to; what could be might be, and would be lost. Older ones are
    not touched: whose they are is not known here, so they may end at any time, and if the address
    is somebody else's memory by then, that would be emptied. For the same reason nothing may end
    one of the new ones meanwhile.

    Args:
        before: from :func:`file_mappings`.

    Returns:
        bytes of the mappings; 0 on systems other than Linux.
    """
    if sys.platform != "linux":
        return 0
    wanted = {(info.st_dev, info.st_ino) for info in (path.stat() for path in files)}
    libc = ctypes.CDLL(None, use_errno=True)
    total = 0
    for start, length, device, inode in file_mappings() - before:
        if (device, inode) in wanted:
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), _MADV_DONTNEED)
            total += length
    return total


def _mappings() -> Iterator[Mapping]:
    with Path("/proc/self/maps").open(encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            addresses, mode, _, device, inode = line.split(maxsplit=5)[:5]
            if mode.startswith("r-") and inode != "0":
                start, end = (int(part, 16) for part in addresses.split("-"))
                major, minor = (int(part, 16) for part in device.split(":"))
                yield start, end - start, os.makedev(major, minor), int(inode)
