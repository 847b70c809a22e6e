"""What the HTTP application needs of a model, and how a loaded bundle gives it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from partitioner.errors import DeadlineError
from partitioner.runtime.batches import BatchedPipeline
from partitioner.runtime.events import Callback
from partitioner.runtime.pipeline import Pipeline
from partitioner.runtime.requests import Outputs, Request
from partitioner.runtime.seeds import Seeds
from partitioner.serve.failures import UnavailableError
from partitioner.specs import InputSpec, TensorSpec

__all__ = ["ModelService", "PipelineService", "ServiceStats"]


@dataclass(frozen=True)
class ServiceStats:
    """A model at this moment.

    Args:
        waiting, running: requests.
        segment_seconds: by segment, since it was loaded; empty where nobody counts.
    """

    waiting: int = 0
    running: int = 0
    segment_seconds: Mapping[str, float] = field(default_factory=dict[str, float])


class ModelService(Protocol):
    """A model that can be served; the application runs it on one event loop.

    Attributes:
        name, version: in addresses; letters, digits, dots, dashes and underscores.
        inputs: in order. A dimension that is a name or None is any size.
        outputs: by name, likewise.
        variants: the options of each schedule that a request may choose; empty if there is one.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def inputs(self) -> Sequence[InputSpec]: ...
    @property
    def outputs(self) -> Mapping[str, TensorSpec]: ...
    @property
    def variants(self) -> Sequence[Mapping[str, Any]]: ...

    def ready(self) -> bool:
        """Whether requests would be served now."""
        ...

    async def infer(
        self,
        inputs: Mapping[str, Any],
        *,
        seed: Seeds = None,
        timeout: float | None = None,
        options: Mapping[str, Any] | None = None,
        callback: Callback | None = None,
    ) -> Outputs:
        """Serve a request. Cancelling the task gives it up.

        Args:
            inputs: arrays or Pillow images, by name.
            seed: of all random numbers, or one for each row.
            timeout: seconds from now; None for any time.
            options: that choose a schedule.
            callback: called after each trip of a loop, by any thread.

        Returns:
            output name -> array, or a list with one for each row.

        Raises:
            InputError: an input that cannot be meant.
            OverloadedError: too many requests wait.
            DeadlineError: the time is over.
            PartitionerError: anything else that went wrong.
        """
        ...

    def stats(self) -> ServiceStats:
        """How busy it is."""
        ...

    def close(self) -> None:
        """Give up what still waits or runs, and give back memory. Blocks."""
        ...


class PipelineService:
    """A loaded bundle as a :class:`ModelService`.

    Args:
        pipe: what :func:`partitioner.load` gives; closed by :meth:`close`.
        name: in addresses; the bundle's own by default.
    """

    def __init__(self, pipe: Pipeline | BatchedPipeline, name: str | None = None) -> None:
        self._pipe = pipe
        self._live: set[Request] = set()
        self._closed = False
        self.name = name or pipe.manifest.name
        self.version = pipe.manifest.version
        self.inputs = tuple(replace(s, tensor=pipe.inputs[s.name]) for s in pipe.manifest.inputs)
        self.outputs: Mapping[str, TensorSpec] = pipe.outputs
        self.variants: Sequence[Mapping[str, Any]] = pipe.variants

    def ready(self) -> bool:
        return not self._closed

    async def infer(
        self,
        inputs: Mapping[str, Any],
        *,
        seed: Seeds = None,
        timeout: float | None = None,
        options: Mapping[str, Any] | None = None,
        callback: Callback | None = None,
    ) -> Outputs:
        given = {**inputs, **(options or {})}
        submit = partial(self._submit, given, seed, timeout, callback)
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                return await asyncio.wrap_future(await _kept_or_cancelled(submit))
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if self._closed and task is not None and not task.cancelling():
                raise UnavailableError(
                    "the server has ended before the request was done"
                ) from error
            raise
        except TimeoutError as error:
            if not limit.expired():
                raise
            # Between two steps that take long the request itself cannot say so.
            raise DeadlineError(
                f"the request was not done within {timeout:g} s",
                advice="allow more time, or serve fewer requests at once",
            ) from error

    def stats(self) -> ServiceStats:
        live = [request.running() for request in tuple(self._live)]
        return ServiceStats(live.count(False), live.count(True), self._segment_seconds())

    def close(self) -> None:
        self._closed = True
        for request in tuple(self._live):
            request.cancel()
        self._pipe.close()

    def _submit(
        self,
        given: Mapping[str, Any],
        seed: Seeds,
        timeout: float | None,
        callback: Callback | None,
    ) -> Request:
        request = self._pipe.submit(given, seed=seed, timeout=timeout, callback=callback)
        self._live.add(request)
        request.add_done_callback(self._live.discard)
        return request

    def _segment_seconds(self) -> dict[str, float]:
        seconds: dict[str, float] = {}
        for segment in self._pipe.stats().segments:
            # Each bucket has the segment once.
            seconds[segment.name] = seconds.get(segment.name, 0.0) + segment.seconds
        return seconds


async def _kept_or_cancelled(submit: Callable[[], Request]) -> Request:
    """What a thread submits: where requests may share calls, pictures are made tensors there.

    If nobody waits for it any more when it is submitted, it is given up.
    """
    submitting = asyncio.create_task(asyncio.to_thread(submit))
    try:
        return await asyncio.shield(submitting)
    except asyncio.CancelledError:
        submitting.add_done_callback(_give_up)
        raise


def _give_up(submitting: asyncio.Task[Request]) -> None:
    if not submitting.cancelled() and submitting.exception() is None:
        submitting.result().cancel()
