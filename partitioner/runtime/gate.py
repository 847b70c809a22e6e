"""Who may be inside of a pipeline, and when it may be closed."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager

from partitioner.errors import UsageError

__all__ = ["Gate"]


class Gate:
    """Lets requests in until it is closed, and closes when the last one is out."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._changed = threading.Condition()
        self._running: dict[int, int] = {}
        self.closed = False

    @contextmanager
    def request(self) -> Generator[None, None, None]:
        thread = threading.get_ident()
        with self._changed:
            if self.closed:
                raise UsageError(
                    f"the pipeline {self._name} is closed", advice="load the bundle again"
                )
            self._running[thread] = self._running.get(thread, 0) + 1
        try:
            yield
        finally:
            with self._changed:
                self._running[thread] -= 1
                if not self._running[thread]:
                    del self._running[thread]
                    self._changed.notify_all()

    def close(self) -> bool:
        """Refuse new requests and wait for those running; False if it was closed before."""
        with self._changed:
            self._refuse_inside()
            first = not self.closed
            self.closed = True
            self._changed.wait_for(lambda: not self._running)
            return first

    def check_outside(self) -> None:
        """Refuse to close from within a request.

        Raises:
            UsageError: the calling thread serves one.
        """
        with self._changed:
            self._refuse_inside()

    def _refuse_inside(self) -> None:
        if threading.get_ident() in self._running:
            raise UsageError(
                f"the pipeline {self._name} cannot be closed from within a call of its own",
                advice="raise an exception in the callback to end the call, then close",
            )
