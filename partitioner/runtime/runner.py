"""Run a schedule: calls, loops, and buffers.

All state of a request is in its :class:`Run`; executables and constants are shared and only read.
Inside loops each segment keeps one bound call, and only the tensors that have changed since its
last run are bound anew: rows of tables, carried values, buffers that alternate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from partitioner.backends.execution import BoundCall, Executable
from partitioner.errors import BackendError
from partitioner.runtime.buffers import Array, Buffer, Pool, Value, retained
from partitioner.runtime.events import Callback, Observer, StepEvent
from partitioner.runtime.schedule import CallStep, Collected, LoopStep, OutputPlace, ScheduledStep

__all__ = ["Run"]


class Run:
    """One request: values by id, buffers, and bound calls.

    Args:
        executables: by segment name.
        values: what exists before the first step: inputs, constants, draws; C-contiguous arrays
            that are never written to.
        callback: called after each trip of a loop.
        observe: called after each call of a segment.
    """

    def __init__(
        self,
        executables: Mapping[str, Executable],
        values: Mapping[str, Array],
        callback: Callback | None = None,
        observe: Observer | None = None,
    ) -> None:
        self._executables = executables
        self._env = {name: Value(array) for name, array in values.items()}
        self._callback = callback
        self._observe = observe
        self._pool = Pool()
        self._bound: dict[str, _Bound] = {}
        self._rows: dict[str, Value] = {}
        self._counts: dict[str, int] = {}

    def steps(self, steps: Sequence[ScheduledStep]) -> None:
        """Run steps in order.

        Raises:
            BackendError: a segment failed.
        """
        for step in steps:
            if isinstance(step, CallStep):
                self._call(step)
            else:
                self._loop(step)
            for name in step.drop:
                self._pool.release(self._env.pop(name))

    def outputs(self, names: Mapping[str, str]) -> dict[str, Array]:
        """The run's outputs as arrays that belong to the caller alone.

        Args:
            names: output name -> value id.
        """
        given: set[int] = set()
        outputs: dict[str, Array] = {}
        for name, value_id in names.items():
            value = self._env[value_id]
            # A view, an input handed through, or an array already given: make it the caller's.
            whole = value.buffer is not None and value.array is value.buffer.array
            owned = whole and id(value.array) not in given
            outputs[name] = value.array if owned else value.array.copy()
            given.add(id(value.array))
        return outputs

    # --- calls ----------------------------------------------------------------------------------

    def _call(self, step: CallStep) -> None:
        bound = self._bound_call(step.segment)
        for index, name in enumerate(step.inputs):
            bound.read(index, self._env[name].array)
        buffers = [
            bound.write(index, self._place(place, bound.writes_outputs))
            for index, place in enumerate(step.outputs)
        ]
        arrays = bound.call.run()
        for place, buffer, array in zip(step.outputs, buffers, arrays, strict=True):
            self._env[place.value] = buffer or Value(array, Buffer(array))
        if self._observe is not None:
            self._report(step.segment, arrays)

    def _bound_call(self, segment: str) -> _Bound:
        bound = self._bound.get(segment)
        if bound is None:
            bound = _Bound(self._executables[segment])
            # Outside of loops a bound call would only keep arrays alive that are needed no more.
            if self._pool.in_loop:
                self._bound[segment] = bound
        return bound

    def _place(self, place: OutputPlace, writes_outputs: bool) -> Value | None:
        if place.row_of is not None:
            return retained(self._rows[place.row_of])
        if place.shape is None or not writes_outputs:
            return None
        buffer = self._pool.take(place.dtype, place.shape)
        return Value(buffer.array, buffer)

    def _report(self, segment: str, arrays: Sequence[Array]) -> None:
        assert self._observe is not None
        count = self._counts.get(segment, 0)
        self._counts[segment] = count + 1
        names = [name for name, _ in self._executables[segment].outputs]
        self._observe(segment, count, dict(zip(names, map(np.copy, arrays), strict=True)))

    # --- loops ----------------------------------------------------------------------------------

    def _loop(self, loop: LoopStep) -> None:
        env, pool = self._env, self._pool
        carried = [retained(env[carry.init]) for carry in loop.carries]
        stacks = [self._stack(collected) for collected in loop.collected]
        pool.enter_loop()
        try:
            for trip in range(loop.trips):
                carried = self._trip(loop, trip, carried, stacks)
                if self._callback is not None:
                    self._callback(StepEvent(loop.name, trip, loop.trips))
        finally:
            pool.leave_loop()
            if not pool.in_loop:
                self._bound.clear()
        for carry, value in zip(loop.carries, carried, strict=True):
            if carry.final is None:
                pool.release(value)
            else:
                env[carry.final] = value
        for collected, stack in zip(loop.collected, stacks, strict=True):
            env[collected.result] = stack.value()

    def _trip(
        self, loop: LoopStep, trip: int, carried: list[Value], stacks: list[_Stack]
    ) -> list[Value]:
        """Run the body once; gives the next carried values."""
        env = self._env
        for carry, value in zip(loop.carries, carried, strict=True):
            env[carry.inner] = value
        for part in loop.slices:
            source = retained(env[part.source])
            # The ellipsis keeps the row of a vector an array.
            env[part.inner] = Value(source.array[trip, ...], source.buffer)
        for collected, stack in zip(loop.collected, stacks, strict=True):
            if not collected.copied:
                self._rows[collected.result] = stack.row(trip)
        for name in loop.unread:
            self._pool.release(env.pop(name))
        try:
            self.steps(loop.body)
        except BackendError as error:
            error.where = f"{error.where}, step {trip + 1} of {loop.trips} of {loop.name!r}"
            raise
        for collected, stack in zip(loop.collected, stacks, strict=True):
            if collected.copied:
                stack.add(trip, env[collected.inner].array)
        following = [retained(env[carry.next]) for carry in loop.carries]
        for name in loop.leftover:
            self._pool.release(env.pop(name))
        return following

    def _stack(self, collected: Collected) -> _Stack:
        if collected.shape is None:
            return _Stack(None)
        return _Stack(self._pool.take(collected.dtype, collected.shape))


class _Bound:
    """A bound call that knows what it is bound to, and binds only what has changed."""

    __slots__ = ("_inputs", "_outputs", "call", "writes_outputs")

    def __init__(self, executable: Executable) -> None:
        self.call: BoundCall = executable.bind()
        self.writes_outputs = executable.writes_outputs
        self._inputs: list[Array | None] = [None] * len(executable.inputs)
        self._outputs: list[Array | None] = [None] * len(executable.outputs)

    def read(self, index: int, array: Array) -> None:
        if self._inputs[index] is not array:
            self.call.set_input(index, array)
            self._inputs[index] = array

    def write(self, index: int, value: Value | None) -> Value | None:
        array = None if value is None else value.array
        if self._outputs[index] is not array:
            self.call.set_output(index, array)
            self._outputs[index] = array
        return value


class _Stack:
    """The array that collects a value of every trip; of unknown shape before the last one."""

    def __init__(self, buffer: Buffer | None) -> None:
        self._buffer = buffer
        self._rows: list[Array] = []

    def row(self, trip: int) -> Value:
        assert self._buffer is not None
        return Value(self._buffer.array[trip, ...], self._buffer)

    def add(self, trip: int, array: Array) -> None:
        if self._buffer is None:
            self._rows.append(array.copy())
        else:
            self._buffer.array[trip, ...] = array

    def value(self) -> Value:
        if self._buffer is None:
            self._buffer = Buffer(self._joined())
        return Value(self._buffer.array, self._buffer)

    def _joined(self) -> Array:
        shapes = {row.shape for row in self._rows}
        if len(shapes) > 1:
            raise BackendError(
                f"a loop collects a value whose shape changes: {sorted(shapes)}",
                advice="collect values of one shape, or pad them in the pipeline",
            )
        return np.stack(self._rows)
