"""What torch.export does over and over, done once."""

from __future__ import annotations

import functools
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

import torch._export.utils

__all__ = ["ops_listed_once"]

_lock = threading.RLock()


@contextmanager
def ops_listed_once() -> Generator[None, None, None]:
    """While this lasts, torch's composite ops are listed once, and not once for each namespace.

    ``run_decompositions`` asks for them 26 times, which is a third of what it takes on a small
    module. torch keeps no list since ops may be registered at any time: none is in one export.
    """
    utils = cast(Any, torch._export.utils)
    with _lock:
        listed = utils._materialize_cpp_cia_ops
        utils._materialize_cpp_cia_ops = functools.cache(listed)
        try:
            yield
        finally:
            utils._materialize_cpp_cia_ops = listed
