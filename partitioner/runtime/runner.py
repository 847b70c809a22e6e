"""Run a schedule: calls, loops, and the places of values.

All state of a request is in its :class:`Run`; executables and constants are shared and only read.
Inside loops each segment keeps one bound call, and only the tensors that have changed since its
last run are bound anew: rows of tables, and values that take their places in turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter, perf_counter_ns

import numpy as np

from partitioner.backends.execution import BoundCall, Executable
from partitioner.errors import BackendError
from partitioner.runtime.arena import Arena, Array
from partitioner.runtime.events import Callback, Carried, Observer, StepEvent
from partitioner.runtime.probes import Watch
from partitioner.runtime.schedule import CallStep, LoopStep, Ring, Scheduled, ScheduledStep
from partitioner.runtime.tallies import Tallies, Tally

__all__ = ["Bound", "Run"]


class Run:
    """One request: values by id, their places, and bound calls.

    Args:
        executables: by segment name.
        scheduled: what is run.
        values: what exists before the first step: inputs, constants, draws; C-contiguous arrays
            that are never written to.
        arena: at least as large as the schedule asks for, and of no other run; None for a new one.
        callback: called after each trip of a loop.
        observe: called after each call of a segment.
        tallies: where calls and their seconds are counted, once the run is over.
        watch: told of segments, loops and steps.

    Raises:
        BackendError: no memory.
    """

    def __init__(
        self,
        executables: Mapping[str, Executable],
        scheduled: Scheduled,
        values: Mapping[str, Array],
        *,
        arena: Arena | None = None,
        callback: Callback | None = None,
        observe: Observer | None = None,
        tallies: Tallies | None = None,
        watch: Watch | None = None,
    ) -> None:
        self._executables = executables
        self._scheduled = scheduled
        self._env = dict(values)
        self._callback = callback
        self._observe = observe
        self._watch = watch
        self._arrays = (arena or Arena(scheduled.buffers.arena)).arrays(scheduled)
        #: Value id -> where it is to be written now. What is missing is written wherever the
        #: backend puts it.
        self._places = {value: self._array(place) for value, place in scheduled.fixed.items()}
        self._loops = 0
        self._bound: dict[str, Bound] = {}
        self._counts: dict[str, int] = {}
        self._tallies = tallies
        self._spent: dict[str, Tally] = {}
        #: When the call before was done.
        self._clock = 0.0

    def run(self) -> dict[str, Array]:
        """Run all steps.

        Returns:
            output name -> array; the arrays belong to the caller alone.

        Raises:
            BackendError: a segment failed.
        """
        try:
            self._steps(self._scheduled.steps)
            return self._outputs()
        finally:
            self._tell_tallies()

    def _tell_tallies(self) -> None:
        if self._tallies is not None:
            self._tallies.add(self._spent)

    def _outputs(self) -> dict[str, Array]:
        given: set[str] = set()
        outputs: dict[str, Array] = {}
        for name, value in self._scheduled.outputs.items():
            array = self._env[value]
            owned = value in self._scheduled.fresh and value not in given
            outputs[name] = array if owned else array.copy()
            given.add(value)
        return outputs

    def _array(self, place: int | str) -> Array:
        array = self._arrays[place] if isinstance(place, int) else self._places[place]
        assert array is not None
        return array

    def _steps(self, steps: Sequence[ScheduledStep]) -> None:
        env = self._env
        for step in steps:
            if isinstance(step, CallStep):
                self._call(step)
            else:
                self._loop(step)
            for name in step.drop:
                del env[name]

    # --- calls ----------------------------------------------------------------------------------

    def _call(self, step: CallStep) -> None:
        bound = self._bound.get(step.segment)
        if bound is None:
            tally = self._spent.setdefault(step.segment, Tally())
            bound = Bound(self._executables[step.segment], tally)
            # A segment that is loaded at its first use was loaded just now.
            self._clock = perf_counter()
            # Outside of loops a bound call would only keep arrays alive that are needed no more.
            if self._loops:
                self._bound[step.segment] = bound
        env, places = self._env, self._places
        for index, name in enumerate(step.inputs):
            bound.read(index, env[name])
        for index, name in enumerate(step.outputs):
            bound.write(index, places.get(name))
        watch = self._watch
        began = perf_counter_ns() if watch is not None else 0
        arrays = bound.call.run()
        if watch is not None:
            watch.span("segment", step.segment, began, perf_counter_ns())
        # One look at the clock a call, which may take half a microsecond: what led to this call,
        # since the one before, counts for it.
        now = perf_counter()
        bound.tally.seconds += now - self._clock
        bound.tally.calls += 1
        self._clock = now
        for name, array in zip(step.outputs, arrays, strict=True):
            env[name] = array
        if self._observe is not None:
            self._report(step.segment, arrays)

    def _report(self, segment: str, arrays: Sequence[Array]) -> None:
        assert self._observe is not None
        count = self._counts.get(segment, 0)
        self._counts[segment] = count + 1
        names = [name for name, _ in self._executables[segment].outputs]
        self._observe(segment, count, dict(zip(names, map(np.copy, arrays), strict=True)))

    # --- loops ----------------------------------------------------------------------------------

    def _loop(self, loop: LoopStep) -> None:
        env, places = self._env, self._places
        carried = [env[carry.init] for carry in loop.carries]
        gathered = [list[Array]() for _ in loop.gathered]
        rings = [self._ring(ring) for ring in loop.rings]
        watch = self._watch
        began = ended = perf_counter_ns() if watch is not None else 0
        self._loops += 1
        for trip in range(loop.trips):
            for value, turns in rings:
                places[value] = turns[(loop.trips - 1 - trip) % len(turns)]
            carried = self._trip(loop, trip, carried, gathered)
            if watch is not None:
                last, ended = ended, perf_counter_ns()
                watch.span("step", loop.name, last, ended, trip)
            if self._callback is not None:
                self._tell(self._callback, loop, trip, carried)
        if watch is not None:
            watch.span("loop", loop.name, began, perf_counter_ns())
        self._loops -= 1
        if not self._loops:
            self._bound.clear()
        for carry, array in zip(loop.carries, carried, strict=True):
            if carry.final is not None:
                env[carry.final] = self._settled(carry.final, array)
        for _, result in (*loop.rows, *loop.copied):
            env[result] = places[result]
        for (_, result), rows in zip(loop.gathered, gathered, strict=True):
            env[result] = _joined(rows)

    def _tell(
        self, callback: Callback, loop: LoopStep, trip: int, carried: Sequence[Array]
    ) -> None:
        values = Carried(loop.names, carried)
        try:
            callback(StepEvent(loop.name, trip, loop.trips, values))
        finally:
            values.end()
            self._clock = perf_counter()

    def _trip(
        self, loop: LoopStep, trip: int, carried: list[Array], gathered: list[list[Array]]
    ) -> list[Array]:
        """Run the body once; gives the next carried values."""
        env, places = self._env, self._places
        for carry, array in zip(loop.carries, carried, strict=True):
            env[carry.inner] = array
        for part in loop.slices:
            # The ellipsis keeps the row of a vector an array.
            env[part.inner] = env[part.source][trip, ...]
        for value, result in loop.rows:
            places[value] = places[result][trip, ...]
        try:
            self._steps(loop.body)
        except BackendError as error:
            error.where = f"{error.where}, step {trip + 1} of {loop.trips} of {loop.name!r}"
            raise
        for value, result in loop.copied:
            places[result][trip, ...] = env[value]
        for (value, _), rows in zip(loop.gathered, gathered, strict=True):
            rows.append(env[value].copy())
        following = [env[carry.next] for carry in loop.carries]
        for name in loop.drop_inside:
            del env[name]
        return following

    def _ring(self, ring: Ring) -> tuple[str, list[Array]]:
        return ring.value, [self._array(place) for place in ring.places]

    def _settled(self, value: str, array: Array) -> Array:
        """The value in its own place; it is there already where the last trip wrote it there."""
        place = self._places.get(value)
        if place is None or array is place:
            return array
        np.copyto(place, array)
        return place


class Bound:
    """A bound call that knows what it is bound to, and binds only what has changed."""

    __slots__ = ("_inputs", "_outputs", "call", "tally")

    def __init__(self, executable: Executable, tally: Tally) -> None:
        self.tally = tally
        self.call: BoundCall = executable.bind()
        self._inputs: list[Array | None] = [None] * len(executable.inputs)
        self._outputs: list[Array | None] = [None] * len(executable.outputs)

    def read(self, index: int, array: Array) -> None:
        if self._inputs[index] is not array:
            self.call.set_input(index, array)
            self._inputs[index] = array

    def write(self, index: int, array: Array | None) -> None:
        if self._outputs[index] is not array:
            self.call.set_output(index, array)
            self._outputs[index] = array


def _joined(rows: Sequence[Array]) -> Array:
    shapes = {row.shape for row in rows}
    if len(shapes) > 1:
        raise BackendError(
            f"a loop collects a value whose shape changes: {sorted(shapes)}",
            advice="collect values of one shape, or pad them in the pipeline",
        )
    return np.stack(rows)
