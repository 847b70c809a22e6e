"""One request in a loop that several share: its run by itself up to the loop, its state there, and
its run by itself after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from partitioner.backends.execution import Executable
from partitioner.runtime.arena import Arena
from partitioner.runtime.events import Callback, Carried, StepEvent
from partitioner.runtime.probes import Source, Watch, call, serving
from partitioner.runtime.queueing import Job
from partitioner.runtime.requests import Outputs, Request
from partitioner.runtime.runner import Run
from partitioner.runtime.schedule import LoopStep, Scheduled
from partitioner.runtime.tallies import Tallies

__all__ = ["Lane", "SteppedRun"]

Array = np.ndarray[Any, Any]


class SteppedRun(Run):
    """A run whose only loop is made step by step by somebody else, who closes it in the end.

    Args:
        executables, scheduled, values, arena: as of :class:`Run`.
        release: gives the arena back.
        tallies: as of :class:`Run`.

    Attributes:
        loop: the step.
        carried: the values carried from trip to trip, the run's own arrays.
    """

    loop: LoopStep
    carried: list[Array]

    def __init__(
        self,
        executables: Mapping[str, Executable],
        scheduled: Scheduled,
        values: Mapping[str, Array],
        *,
        arena: Arena,
        release: Callable[[], None],
        tallies: Tallies | None = None,
    ) -> None:
        super().__init__(executables, scheduled, values, arena=arena, tallies=tallies)
        self._release: Callable[[], None] | None = release

    def close(self) -> None:
        """Give back what the run was lent; twice is fine."""
        if self._release is not None:
            self._release()
            self._release = None
            self._tell_tallies()

    def begin(self, watch: Watch | None = None) -> None:
        """Run what comes before the loop.

        Args:
            watch: told of segments.

        Raises:
            BackendError: a segment failed.
        """
        self._watch = watch
        steps = self._scheduled.steps
        at = next(i for i, step in enumerate(steps) if isinstance(step, LoopStep))
        found = steps[at]
        assert isinstance(found, LoopStep)
        self.loop, self._after = found, steps[at + 1 :]
        self._steps(steps[:at])
        self.carried = [self._env[carry.init].copy() for carry in self.loop.carries]

    def value(self, name: str) -> Array:
        """What was there before the loop."""
        return self._env[name]

    def end(self, watch: Watch | None = None) -> dict[str, Array]:
        """Run what comes after the loop, with what ``carried`` holds now; gives the outputs.

        Args:
            watch: told of segments.

        Raises:
            BackendError: a segment failed.
        """
        self._watch = watch
        for carry, array in zip(self.loop.carries, self.carried, strict=True):
            if carry.final is not None:
                self._env[carry.final] = self._settled(carry.final, array)
        for name in self.loop.drop:
            del self._env[name]
        self._steps(self._after)
        return self._outputs()


class Lane:
    """A request on its way through a shared loop.

    Args:
        job: whose request is marked as running.
        source: of calls, for probes.
        start: makes the run.
        callback: of the request alone.
        finish: makes of the run's outputs what the request is answered.
    """

    run: SteppedRun | None = None

    def __init__(
        self,
        job: Job,
        source: Source,
        start: Callable[[], SteppedRun],
        callback: Callback | None,
        finish: Callable[[dict[str, Array]], Outputs],
    ) -> None:
        self.request: Request = job.request
        self.trip = 0
        self._callback = job.request.callback(callback)
        self._finish = finish
        self._source = source
        try:
            self.request.check()
            self.run = start()
            with serving(self.request.follower), call(source) as watch:
                self.run.begin(watch)
        except BaseException as error:  # noqa: BLE001 - whatever ends a request is its answer
            self.fail(error)

    @property
    def done(self) -> bool:
        """Whether it was answered."""
        return self.request.done()

    @property
    def stepped(self) -> SteppedRun:
        """Its run, of a lane that is not done."""
        assert self.run is not None
        return self.run

    def advance(self) -> None:
        """A step was made: tell the caller, and answer the request if it ends now."""
        run = self.stepped
        loop = run.loop
        values = Carried(loop.names, run.carried)
        event = StepEvent(loop.name, self.trip, loop.trips, values)
        self.trip += 1
        try:
            self._callback(event)
            if self.trip < loop.trips:
                return
            with serving(self.request.follower), call(self._source) as watch:
                ended = run.end(watch)
            outputs = self._finish(ended)
        except BaseException as error:  # noqa: BLE001 - whatever ends a request is its answer
            self.fail(error)
        else:
            run.close()
            self.request.finish(outputs)
        finally:
            values.end()

    def fail(self, error: BaseException) -> None:
        """Answer the request by an error."""
        if self.run is not None:
            self.run.close()
        self.request.set_exception(error)
