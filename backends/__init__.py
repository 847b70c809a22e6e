"""The backends that are installed, found by entry point and imported when they are needed.

Every backend, those of this package included, is an entry point of the group
``partitioner.backends`` whose name is the backend's and whose value is a
:class:`~partitioner.backends.execution.BackendInfo`. Looking for one imports no other.
"""

from __future__ import annotations

import functools
import importlib.metadata
import sys
from collections.abc import Iterable

from partitioner.backends.execution import BackendInfo
from partitioner.errors import BackendError, IncompatibleBundleError

__all__ = ["ENTRY_POINTS", "BackendInfo", "backend_names", "find_backend"]

ENTRY_POINTS = "partitioner.backends"


def backend_names() -> tuple[str, ...]:
    """The names of all installed backends, sorted; imports none of them."""
    return tuple(sorted({entry.name for entry in _entries()}))


def find_backend(name: str) -> BackendInfo:
    """The backend of that name.

    Raises:
        IncompatibleBundleError: no such backend is installed.
        BackendError: two packages claim the name, or the entry point is not a backend.
    """
    entries = [entry for entry in _entries() if entry.name == name]
    if not entries:
        raise IncompatibleBundleError(
            f"backend {name!r} is not installed; installed are {', '.join(backend_names())}",
            advice="install the package that brings it, or build for another target",
        )
    _refuse_clash(name, entries)
    info = entries[0].load()
    if not isinstance(info, BackendInfo) or info.name != name:
        raise BackendError(
            f"the entry point {entries[0].value!r} is not the backend {name!r}",
            where=_distribution(entries[0]),
            advice="its value must be a BackendInfo of the same name",
        )
    return info


def _entries() -> Iterable[importlib.metadata.EntryPoint]:
    return _entries_on(tuple(sys.path))


@functools.cache
def _entries_on(path: tuple[str, ...]) -> Iterable[importlib.metadata.EntryPoint]:
    # Reading them opens a file of every package that is installed: 10 ms, hundreds of times a plan.
    return importlib.metadata.entry_points(group=ENTRY_POINTS)


def _refuse_clash(name: str, entries: list[importlib.metadata.EntryPoint]) -> None:
    # One package seen twice (a checkout beside its installed copy) is no clash.
    if len({entry.value for entry in entries}) == 1:
        return
    owners = " and ".join(f"{_distribution(entry)} ({entry.value})" for entry in entries)
    raise BackendError(
        f"two packages bring a backend named {name!r}: {owners}", advice="uninstall one of them"
    )


def _distribution(entry: importlib.metadata.EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "an unknown package"
