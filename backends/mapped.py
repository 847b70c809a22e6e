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

__all__ = ["give_back_pages"]

#: Of madvise(2) on Linux, on every architecture.
_MADV_DONTNEED = 4


def give_back_pages(files: Iterable[Path]) -> int:
    """Let go of the pages of all read-only mappings of these files in this process.

    Returns:
        bytes of the mappings; 0 on systems other than Linux.
    """
    if sys.platform != "linux":
        return 0
    wanted = {(info.st_dev, info.st_ino) for info in (path.stat() for path in files)}
    libc = ctypes.CDLL(None, use_errno=True)
    total = 0
    for start, length in _mappings(wanted):
        # A mapping may be gone by now, and then there is nothing to give back.
        if libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), _MADV_DONTNEED) == 0:
            total += length
    return total


def _mappings(wanted: set[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Address and length of the mappings of these (device, inode) that cannot be written to.

    What could be written to might be, and would be lost.
    """
    with Path("/proc/self/maps").open(encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            addresses, mode, _, device, inode = line.split(maxsplit=5)[:5]
            major, minor = (int(part, 16) for part in device.split(":"))
            if mode.startswith("r-") and (os.makedev(major, minor), int(inode)) in wanted:
                start, end = (int(part, 16) for part in addresses.split("-"))
                yield start, end - start
