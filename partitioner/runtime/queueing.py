"""Requests wait in a bounded queue for threads that serve them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from partitioner.errors import OverloadedError, UsageError
from partitioner.runtime.requests import Outputs, Request

__all__ = ["DEFAULT_QUEUE", "QueueOptions", "RequestQueue"]


@dataclass(frozen=True)
class QueueOptions:
    """How submitted requests wait and are served.

    Args:
        workers: requests that are served at a time.
        limit: requests that wait at most; another one is refused.
    """

    workers: int = 1
    limit: int = 64

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UsageError(f"workers must be at least 1, not {self.workers}")
        if self.limit < 1:
            raise UsageError(f"the limit of a queue must be at least 1, not {self.limit}")


#: One worker, 64 requests that wait.
DEFAULT_QUEUE = QueueOptions()

#: Serves a request; its state is that of the future.
Serve = Callable[[Request], Outputs]


class RequestQueue:
    """First come, first served, by threads that start with the first request.

    Args:
        name: of the pipeline, for messages.
        options: how many wait and how many are served.
    """

    def __init__(self, name: str, options: QueueOptions) -> None:
        self._name = name
        self._options = options
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Request, Serve]] = deque()
        self._threads: list[threading.Thread] = []
        self._closed = False

    def put(self, request: Request, serve: Serve) -> None:
        """Let a request wait for its turn.

        Raises:
            OverloadedError: as many as may wait do already.
            UsageError: the pipeline is closed.
        """
        with self._changed:
            if self._closed:
                raise UsageError(
                    f"the pipeline {self._name} is closed", advice="load the bundle again"
                )
            if len(self._waiting) >= self._options.limit:
                raise OverloadedError(
                    f"{len(self._waiting)} requests wait for {self._name} already",
                    advice="try again later, serve with more replicas, or let more of them wait",
                )
            self._waiting.append((request, serve))
            if len(self._threads) < self._options.workers:
                self._start()
            self._changed.notify()

    def close(self) -> None:
        """Refuse new requests, serve those that wait, and end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def _start(self) -> None:
        name = f"{self._name} worker {len(self._threads)}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                request, serve = self._waiting.popleft()
            if request.set_running_or_notify_cancel():
                _answer(request, serve)


def _answer(request: Request, serve: Serve) -> None:
    try:
        request.check()
        outputs = serve(request)
    except BaseException as error:  # noqa: BLE001 - whatever ends a request is its answer
        request.set_exception(error)
    else:
        request.finish(outputs)
