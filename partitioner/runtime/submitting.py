"""What pipelines have in common: requests that are submitted, and awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from partitioner.errors import PartitionerError
from partitioner.runtime import probes
from partitioner.runtime.events import Callback
from partitioner.runtime.queueing import QueueOptions, RequestQueue
from partitioner.runtime.requests import Outputs, Request
from partitioner.runtime.seeds import Seeds

__all__ = ["Submitting"]


class Submitting:
    """A pipeline whose calls can wait their turn in a queue.

    Args:
        source: the pipeline, for probes and messages.
        queue: how requests wait and are served.
    """

    def __init__(self, source: probes.Source, queue: QueueOptions) -> None:
        self.source = source
        self._queue = RequestQueue(source.name, queue)

    def __call__(self, given: Mapping[str, Any] | None = None, /, **arguments: Any) -> Outputs:
        raise NotImplementedError

    def submit(
        self,
        given: Mapping[str, Any] | None = None,
        /,
        *,
        seed: Seeds = None,
        callback: Callback | None = None,
        timeout: float | None = None,
        **inputs: Any,
    ) -> Request:
        """Let a request wait for its turn; returns at once.

        Args:
            given, seed, callback, inputs: as of a call.
            timeout: seconds from now in which it must be done, its waiting included.

        Returns:
            a future. ``cancel`` ends the request between steps. It raises what a call would, and
            DeadlineError where the time is over.

        Raises:
            OverloadedError: too many requests wait already.
            UsageError: the pipeline is closed.
        """
        request = Request(timeout)
        request.follower = probes.follow(self.source)

        def serve(request: Request) -> Outputs:
            with probes.serving(request.follower):
                return self(given, seed=seed, callback=request.callback(callback), **inputs)

        try:
            self._queue.put(request, serve)
        except PartitionerError as error:
            request.set_exception(error)  # so that probes know what became of it
            raise
        return request

    async def run_async(
        self,
        given: Mapping[str, Any] | None = None,
        /,
        *,
        seed: Seeds = None,
        callback: Callback | None = None,
        timeout: float | None = None,
        **inputs: Any,
    ) -> Outputs:
        """As :meth:`submit`, awaited. Cancelling the task cancels the request."""
        request = self.submit(given, seed=seed, callback=callback, timeout=timeout, **inputs)
        return await asyncio.wrap_future(request)
