"""The OpenVINO library: imported in one way, and one core a process."""

from __future__ import annotations

import functools
import importlib
import sys
import threading
from typing import Any

__all__ = ["core", "openvino"]

#: Segments are loaded by several threads at once, and none may make a core of its own.
_lock = threading.Lock()


@functools.cache
def openvino() -> Any:
    """The module ``openvino``, without its telemetry.

    Importing it would send usage data over the network, which nothing that serves or builds may
    do unasked; it also takes as long as the rest of the import. The library does without where
    the module for it cannot be imported.
    """
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module("openvino")


def core() -> Any:
    """The process's ``Core``: it knows the plugins, and is safe to use from several threads."""
    with _lock:
        return _core()


@functools.cache
def _core() -> Any:
    return openvino().Core()
