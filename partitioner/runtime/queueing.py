"""Requests wait in a bounded line for threads that serve them.

Who waits and who is next is decided by :class:`partitioner.runtime.scheduling.line.Line`; here are
the threads around it. Whoever takes a request out of the line owes it an answer, so each gets one.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from partitioner.errors import OverloadedError, UsageError
from partitioner.runtime.requests import Outputs, Request
from partitioner.runtime.scheduling.line import Line, Rules, Waiting

__all__ = ["DEFAULT_QUEUE", "Job", "QueueOptions", "RequestQueue", "Share", "answer"]


@dataclass(frozen=True)
class QueueOptions:
    """How submitted requests wait and are served.

    Args:
        workers: calls that are made at a time.
        limit: requests that wait at most; another one is refused.
        max_wait: seconds that a request waits for others to share a batch with, where the bundle
            has batch sizes; with 0 those that wait already are served together.
    """

    workers: int = 1
    limit: int = 64
    max_wait: float = 0.0

    def __post_init__(self) -> None:
        counts: dict[str, object] = {"workers": self.workers, "the limit of a queue": self.limit}
        for name, count in counts.items():
            if not isinstance(count, int) or count < 1:
                raise UsageError(f"{name} must be a whole number of at least 1, not {count}")
        if not 0 <= self.max_wait < float("inf"):
            raise UsageError(f"max_wait is a number of seconds, not {self.max_wait}")


#: One worker, 64 requests that wait, none for company.
DEFAULT_QUEUE = QueueOptions()


@dataclass(frozen=True)
class Share:
    """What lets a request share a call.

    Args:
        key: equal for requests that may be served together.
        rows: that it takes up.
        content: for whoever serves the call.
    """

    key: Hashable
    rows: int
    content: Any


@dataclass(frozen=True, eq=False)
class Job:
    """A request and how it is served.

    Args:
        alone: serves it by itself.
        share: None where it shares with nobody.
    """

    request: Request
    alone: Callable[[Request], Outputs]
    share: Share | None = None


#: Answers all requests of jobs that share a call; what it raises is the answer of those that it
#: has not answered. The queue is given, for jobs that come meanwhile (:meth:`RequestQueue.join`).
Together = Callable[[Sequence[Job], "RequestQueue"], None]


class RequestQueue:
    """Fair, first come first served, by threads that start with the first request.

    A request that is cancelled while it waits gives its place free at once; one whose deadline
    passes is answered at once, whatever the workers do.

    Args:
        name: of the pipeline, for messages.
        options: how many wait and how many are served.
        rows: that requests that share a call have at most.
        together: serves jobs that share a call.
    """

    def __init__(
        self,
        name: str,
        options: QueueOptions,
        *,
        rows: int = 1,
        together: Together | None = None,
    ) -> None:
        self._name = name
        self._options = options
        self._together = together
        self._changed = threading.Condition()
        self._line: Line[Job] = Line(Rules(options.limit, rows, options.max_wait))
        self._workers: list[threading.Thread] = []
        self._watcher: threading.Thread | None = None
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._line)

    def put(self, job: Job, client: Hashable = None) -> None:
        """Let a request wait for its turn.

        Args:
            client: who takes turns with other clients.

        Raises:
            OverloadedError: as many as may wait do already.
            UsageError: the pipeline is closed.
        """
        request, share = job.request, job.share
        key, rows = (None, 1) if share is None else (share.key, share.rows)
        waiting = Waiting(job, request.submitted, request.deadline, key, rows, client)
        with self._changed:
            self.check_room()
            # First: where no thread can be started, nothing must wait for one.
            self._start_threads(watched=request.deadline is not None)
            self._line.add(waiting)
            self._changed.notify_all()
        # Outside of the lock: it may be done already, and then is called at once.
        # Weakly, for a future keeps its callbacks, and this is held by what holds the future.
        request.add_done_callback(partial(self._forget, weakref.ref(waiting)))

    def check_room(self) -> None:
        """Refuse a request that could not wait, before work is put into it.

        Raises:
            as :meth:`put`.
        """
        if self._closed:
            raise UsageError(f"the pipeline {self._name} is closed", advice="load the bundle again")
        if len(self._line) >= self._options.limit:
            raise OverloadedError(
                f"{len(self._line)} requests wait for {self._name} already",
                advice="try again later, serve with more replicas, or let more of them wait",
            )

    def join(self, key: Hashable, rows: int) -> list[Job]:
        """Take jobs that may join those of a key that are being served; does not wait.

        Args:
            rows: that are free.
        """
        with self._changed:
            return [waiting.item for waiting in self._line.join(key, rows)]

    def close(self) -> None:
        """Refuse new requests, serve those that wait, and end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        threads = [*self._workers, *([self._watcher] if self._watcher else [])]
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join()

    # --- threads --------------------------------------------------------------------------------

    def _start_threads(self, *, watched: bool) -> None:
        if len(self._workers) < self._options.workers:
            self._workers.append(self._thread(f"worker {len(self._workers)}", self._work))
        if watched and self._watcher is None:
            self._watcher = self._thread("deadlines", self._watch)

    def _thread(self, role: str, target: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=target, name=f"{self._name} {role}", daemon=True)
        thread.start()
        return thread

    def _work(self) -> None:
        while jobs := self._next():
            self._serve(jobs)

    def _next(self) -> list[Job]:
        """The next jobs to serve together; none when the queue is closed and empty."""
        with self._changed:
            while True:
                group = self._line.take(time.monotonic(), closing=self._closed)
                if group or self._closed:
                    return [waiting.item for waiting in group]
                self._wait_until(self._line.next_ready())

    def _serve(self, jobs: list[Job]) -> None:
        """Serve jobs that go together; takes them off the list.

        An error's traceback keeps the frames that led to it, and a request its error. So no job is
        left in a frame, here and in :func:`answer`: else only a full collection would end it.
        """
        running = [job for job in jobs if job.request.set_running_or_notify_cancel()]
        jobs.clear()
        if not running:
            return
        if self._together is None or running[0].share is None:
            answer(running.pop())
            return
        try:
            self._together(running, self)
        except BaseException as error:  # noqa: BLE001 - whatever ends requests is their answer
            _fail(running, error)
        finally:
            running.clear()

    def _watch(self) -> None:
        """Answer requests whose deadline passes while they wait."""
        while True:
            with self._changed:
                over = self._line.expire(time.monotonic())
                if not over:
                    if self._closed and not len(self._line):
                        return
                    self._wait_until(self._line.next_deadline())
            # Outside of the lock: what is told of an answer may use the queue.
            for waiting in over:
                if waiting.item.request.set_running_or_notify_cancel():
                    waiting.item.request.set_exception(waiting.item.request.overdue())

    def _wait_until(self, when: float | None) -> None:
        if when is None:
            self._changed.wait()
        else:
            # Beyond what a lock can wait for, whoever waits looks again.
            seconds = max(0.0, when - time.monotonic())
            self._changed.wait(min(seconds, threading.TIMEOUT_MAX))

    def _forget(self, held: weakref.ref[Waiting[Job]], _: Future[Outputs]) -> None:
        """Free the place of a request that was answered while it waits: it was cancelled."""
        waiting = held()
        if waiting is None:
            return
        with self._changed:
            if self._line.remove(waiting) and self._closed:
                self._changed.notify_all()


def answer(job: Job) -> None:
    """Serve a job by itself: its request, which is marked as running, gets outputs or an error."""
    try:
        job.request.check()
        outputs = job.alone(job.request)
    except BaseException as error:  # noqa: BLE001 - whatever ends a request is its answer
        job.request.set_exception(error)
        del job  # see RequestQueue._serve
    else:
        job.request.finish(outputs)


def _fail(jobs: Sequence[Job], error: BaseException) -> None:
    """Answer those that are not answered yet."""
    for job in jobs:
        if not job.request.done():
            job.request.set_exception(error)
