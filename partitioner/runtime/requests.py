"""A request that was submitted: a future that can be cancelled between steps and has a deadline."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import Any

from partitioner.errors import DeadlineError, UsageError
from partitioner.runtime.events import Callback, StepEvent
from partitioner.runtime.probes import Follower

__all__ = ["Outputs", "Request"]

#: Output name -> array, or what :class:`partitioner.runtime.batches.BatchedPipeline` gives.
Outputs = dict[str, Any]


class Request(Future[Outputs]):
    """What ``submit`` gives: the outputs when they are there.

    Args:
        timeout: seconds from now in which the request must be done; None or infinity for any
            time.

    Raises:
        UsageError: the timeout is no number.

    Attributes:
        deadline: on the clock of ``time.monotonic``; None where there is none.
        follower: tells probes what becomes of it; None where there are none.
    """

    def __init__(self, timeout: float | None = None) -> None:
        super().__init__()
        limit = math.inf if timeout is None else timeout
        if math.isnan(limit):
            raise UsageError(
                "a timeout of nan, which no time is over or within",
                advice="give seconds, or None for any time",
            )
        self.submitted = time.monotonic()
        self.deadline = None if limit == math.inf else self.submitted + limit
        self.follower: Follower | None = None
        self._abandoned = False
        #: Its outputs are on their way to whoever waits: it is too late to give it up.
        self._answering = False

    def cancel(self) -> bool:
        """Give the request up: at once while it waits, after the present step while it runs.

        Returns:
            False if it is done already, or being answered. Where it ends by itself before the next
            step, its outputs are given up all the same.
        """
        with self._condition:
            if self._answering or (self.done() and not self.cancelled()):
                return False
            self._abandoned = True
        # False where it runs: the runner sees that it was abandoned.
        raised = self._told(CancelledError()) if super().cancel() else None
        if raised is not None:
            raise raised
        return True

    def cancelled(self) -> bool:
        """Whether it ended by ``cancel``."""
        return super().cancelled() or (self.done() and self._abandoned)

    def check(self) -> None:
        """End the run from within: between steps, by whoever serves the request.

        Raises:
            CancelledError: it was cancelled.
            DeadlineError: its time is over.
        """
        if self._abandoned:
            raise CancelledError
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise self.overdue()

    def overdue(self) -> DeadlineError:
        """What a request is answered whose time is over; it has a deadline."""
        assert self.deadline is not None
        return DeadlineError(
            f"the request was not done within {self.deadline - self.submitted:g} s",
            advice="allow more time, or serve fewer requests at once",
        )

    def set_running_or_notify_cancel(self) -> bool:
        """As of Future; probes know that it is begun, and what they raise is its answer.

        Returns:
            False where nobody is to serve it.
        """
        if not super().set_running_or_notify_cancel():
            return False
        try:
            if self.follower is not None:
                self.follower.begun()
        except BaseException as error:  # noqa: BLE001 - whatever ends a request is its answer
            self.set_exception(error)
            return False
        return True

    def set_result(self, result: Outputs) -> None:
        """As of Future; probes know it before who waits for it, and what they raise is the answer.

        None is lost by what a probe raises: neither this request, nor the thread that serves it.
        """
        raised = self._told(None)
        if raised is None:
            super().set_result(result)
        else:
            super().set_exception(raised)

    def callback(self, then: Callback | None) -> Callback:
        """A callback for a run that serves this request; calls ``then``, too."""
        # No function made here: the frame of one keeps what it encloses, even when it is cleared.
        return partial(self._after_trip, then)

    def _after_trip(self, then: Callback | None, event: StepEvent) -> None:
        self.check()
        if then is not None:
            then(event)

    def set_exception(self, exception: BaseException | None) -> None:
        """As of Future; probes know it before who waits for it, and what they raise is the answer.

        What the frames that it has passed hold, the run and its bound calls, is let go: else it
        would stay until the next full collection, for it holds the request.
        """
        raised = self._told(exception)
        if raised is not None:
            raised.__cause__, exception = exception, raised
        for error in _chain(exception):
            traceback.clear_frames(error.__traceback__)
        super().set_exception(exception)

    def finish(self, outputs: Outputs) -> None:
        """Give the outputs, unless the request was given up meanwhile."""
        with self._condition:
            self._answering = not self._abandoned
        if not self._answering:
            self.set_exception(CancelledError())
        else:
            self.set_result(outputs)

    def _told(self, error: BaseException | None) -> BaseException | None:
        """Tell probes that it is answered, once; gives what they raise."""
        follower, self.follower = self.follower, None
        try:
            if follower is not None:
                follower.answered(error)
        except BaseException as raised:  # noqa: BLE001 - whatever ends a request is its answer
            return raised
        return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it came from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
