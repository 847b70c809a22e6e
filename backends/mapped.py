"""Memory-mapped weights that a library has made its own copy of: give their pages back.

A library that repacks weights reads every page of the file that it has mapped, and keeps the
mapping. The pages count for the process until the host is short of memory, though nothing reads
them again. They are clean: if something does, they come back from the file.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["pages_given_back"]

#: Of madvise(2) on Linux, on every architecture.
_MADV_DONTNEED = 4


@contextmanager
def pages_given_back(files: Iterable[Path]) -> Generator[None]:
    """Let go, when the context is left, of the pages of mappings of these files made within.

    Of mappings that cannot be written to; what could be might be, and would be lost. What is
    mapped within must stay mapped until the context has been left.

    Older mappings are not touched: another thread may end one at any time, and if the address is
    somebody else's memory by then, that would be emptied. On systems other than Linux, and if the
    context is left by an exception, nothing is given back.
    """
    if sys.platform != "linux":
        yield
        return
    wanted = {(info.st_dev, info.st_ino) for info in (path.stat() for path in files)}
    before = set(_mappings(wanted))
    yield
    libc = ctypes.CDLL(None, use_errno=True)
    for start, length in set(_mappings(wanted)) - before:
        libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), _MADV_DONTNEED)


def _mappings(wanted: set[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Address and length of the mappings of these (device, inode) that cannot be written to."""
    with Path("/proc/self/maps").open(encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            addresses, mode, _, device, inode = line.split(maxsplit=5)[:5]
            major, minor = (int(part, 16) for part in device.split(":"))
            if mode.startswith("r-") and (os.makedev(major, minor), int(inode)) in wanted:
                start, end = (int(part, 16) for part in addresses.split("-"))
                yield start, end - start
