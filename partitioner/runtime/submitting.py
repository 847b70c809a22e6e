"""What pipelines have in common: requests that are submitted, and awaited."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from typing import Any

from partitioner.errors import PartitionerError
from partitioner.runtime import probes
from partitioner.runtime.events import Callback
from partitioner.runtime.lazy import Shelf
from partitioner.runtime.queueing import Job, QueueOptions, RequestQueue, Share, Together
from partitioner.runtime.recorder import Recorder
from partitioner.runtime.requests import Outputs, Request
from partitioner.runtime.seeds import Seeds

__all__ = ["Submitting"]


class Submitting(ABC):
    """A pipeline whose calls can wait their turn in a queue.

    Args:
        source: the pipeline, for probes and messages.
        queue: how requests wait and are served.
        rows: that requests that share a call have at most.
        together: serves requests that share a call.
    """

    def __init__(
        self,
        source: probes.Source,
        queue: QueueOptions,
        *,
        rows: int = 1,
        together: Together | None = None,
    ) -> None:
        self._queue = RequestQueue(source.name, queue, rows=rows, together=together)
        self._recorder = Recorder()
        self.source = source

    @property
    @abstractmethod
    def shelf(self) -> Shelf | None:
        """What keeps to ``max_memory`` while requests take turns; None where they need not."""

    @abstractmethod
    def _ask(self, given: Mapping[str, Any] | None = None, /, **arguments: Any) -> Outputs:
        """A call that is not counted: a submitted request is, by what becomes of its future."""

    def _share(
        self, given: Mapping[str, Any], seed: Seeds, callback: Callback | None
    ) -> Share | None:
        """What lets a request share a call; None where it is served by itself.

        Raises:
            InputError: its inputs are not what is declared.
        """
        return None

    def submit(
        self,
        given: Mapping[str, Any] | None = None,
        /,
        *,
        seed: Seeds = None,
        callback: Callback | None = None,
        timeout: float | None = None,
        client: Hashable = None,
        **inputs: Any,
    ) -> Request:
        """Let a request wait for its turn; returns without waiting for it.

        Where requests may share calls, inputs are checked, and pictures made tensors, here and now.

        Args:
            given, seed, callback, inputs: as of a call.
            timeout: seconds from now in which it must be done, its waiting included.
            client: for whom it is: clients take turns. Of one client, and where none is named,
                first come, first served.

        Returns:
            a future. ``cancel`` ends the request between steps. It raises what a call would, and
            DeadlineError where the time is over.

        Raises:
            OverloadedError: too many requests wait already.
            UsageError: the pipeline is closed, the timeout is no number, or requests take turns
                and this one is made from within a call.
        """
        if self.shelf is not None:
            self.shelf.check_outside()
        request = Request(timeout)
        request.follower = probes.follow(self.source)
        try:
            with self._recorder.refusals():
                self._queue.check_room()
                job = self._job(request, given, seed, callback, inputs)
                if job is not None:
                    self._queue.put(job, client)
        except BaseException as error:
            if not request.done():
                request.set_exception(error)  # so that probes know what became of it
            raise
        self._recorder.watch(request)
        return request

    def _job(
        self,
        request: Request,
        given: Mapping[str, Any] | None,
        seed: Seeds,
        callback: Callback | None,
        inputs: Mapping[str, Any],
    ) -> Job | None:
        """How a request is served; None where it is answered at once: its inputs are refused."""
        whole = {**(given or {}), **inputs}
        try:
            share = None if set(given or {}) & set(inputs) else self._share(whole, seed, callback)
        except PartitionerError as error:
            request.set_exception(error)
            return None

        def alone(request: Request) -> Outputs:
            with probes.serving(request.follower):
                return self._ask(given, seed=seed, callback=request.callback(callback), **inputs)

        return Job(request, alone, share)

    async def run_async(
        self,
        given: Mapping[str, Any] | None = None,
        /,
        *,
        seed: Seeds = None,
        callback: Callback | None = None,
        timeout: float | None = None,
        client: Hashable = None,
        **inputs: Any,
    ) -> Outputs:
        """As :meth:`submit`, awaited. Cancelling the task cancels the request."""
        import asyncio  # who awaits has it; for others it were a tenth of all imports

        request = self.submit(
            given, seed=seed, callback=callback, timeout=timeout, client=client, **inputs
        )
        return await asyncio.wrap_future(request)
