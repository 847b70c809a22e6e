"""Waiting before another try: exponential, with full jitter.

After "Exponential Backoff And Jitter", AWS Architecture Blog, 2015: a random time below a bound
that doubles keeps many clients from coming back at once.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["ATTEMPTS", "pause", "retried"]

T = TypeVar("T")

#: Tries in a row without progress before one gives up.
ATTEMPTS = 6

_BASE = 0.2
_CAP = 10.0


def pause(failures: int) -> None:
    """Sleep after the ``failures``-th failure in a row, 1 being the first."""
    time.sleep(random.uniform(0, min(_CAP, _BASE * 2 ** (failures - 1))))


def retried(act: Callable[[], T], *transient: type[Exception]) -> T:
    """The result of ``act``, which is called again after errors that another try may change.

    Raises:
        Exception: what the last try raised.
    """
    failures = 0
    while True:
        try:
            return act()
        except transient:
            failures += 1
            if failures == ATTEMPTS:
                raise
            pause(failures)
