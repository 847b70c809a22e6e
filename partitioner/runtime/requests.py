"""A request that was submitted: a future that can be cancelled between steps and has a deadline."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from typing import Any

from partitioner.errors import DeadlineError
from partitioner.runtime.events import Callback, StepEvent

__all__ = ["Outputs", "Request"]

#: Output name -> array, or what :class:`partitioner.runtime.batches.BatchedPipeline` gives.
Outputs = dict[str, Any]


class Request(Future[Outputs]):
    """What ``submit`` gives: the outputs when they are there.

    Args:
        timeout: seconds from now in which the request must be done; None for any time.

    Attributes:
        deadline: on the clock of ``time.monotonic``; None where there is none.
    """

    def __init__(self, timeout: float | None = None) -> None:
        super().__init__()
        self.submitted = time.monotonic()
        self.deadline = None if timeout is None else self.submitted + timeout
        self._abandoned = False

    def cancel(self) -> bool:
        """Give the request up: at once while it waits, after the present step while it runs.

        Returns:
            False if it is done already. Where it ends by itself before the next step, its outputs
            are given up all the same.
        """
        with self._condition:
            if self.done() and not self.cancelled():
                return False
            self._abandoned = True
        super().cancel()  # False where it runs: the runner sees that it was abandoned
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
            allowed = self.deadline - self.submitted
            raise DeadlineError(
                f"the request was not done within {allowed:g} s",
                advice="allow more time, or serve fewer requests at once",
            )

    def callback(self, then: Callback | None) -> Callback:
        """A callback for a run that serves this request; calls ``then``, too."""

        def after_trip(event: StepEvent) -> None:
            self.check()
            if then is not None:
                then(event)

        return after_trip

    def set_exception(self, exception: BaseException | None) -> None:
        """As of a future. What the frames that it has passed hold, the run and its bound calls, is
        let go: else it would stay until the next full collection, for it holds the request."""
        for error in _chain(exception):
            traceback.clear_frames(error.__traceback__)
        super().set_exception(exception)

    def finish(self, outputs: Outputs) -> None:
        """Give the outputs, unless the request was given up meanwhile."""
        with self._condition:
            abandoned = self._abandoned
        if abandoned:
            self.set_exception(CancelledError())
        else:
            self.set_result(outputs)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it came from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
