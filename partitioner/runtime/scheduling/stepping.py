"""Step-level batching: requests at different steps of a loop share calls of its body.

Each request runs by itself up to the loop and after it, in the bucket of one request. Between, it
is a *lane*: in each round, the lanes' rows are gathered into the inputs of the smallest bucket that
holds them, each with its own row of the tables; the body runs once; each lane takes its rows of
what is carried on. Who comes while others are under way joins at the next round, who has made its
steps leaves. See A. Yu et al., "Orca: A Distributed Serving System for Transformer-Based Generative
Models", OSDI 2022 (iteration-level scheduling), where the idea is from.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter, perf_counter_ns
from typing import TYPE_CHECKING, Any

import numpy as np

from partitioner.backends.execution import Executable
from partitioner.errors import UsageError
from partitioner.plan import Plan
from partitioner.runtime.probes import Source, Watch, call, serving
from partitioner.runtime.runner import Bound
from partitioner.runtime.scheduling.alignment import Aligned, Place, align
from partitioner.runtime.scheduling.lanes import Lane
from partitioner.runtime.scheduling.sharing import tell
from partitioner.runtime.tallies import Tallies, Tally

__all__ = ["Bodies", "Body", "SharedBody", "body_of", "check_steps", "drive"]

if TYPE_CHECKING:
    from partitioner.artifacts.manifest import Manifest

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Body:
    """The loop's body of a bucket, as it was loaded; shared by all who drive it.

    Args:
        aligned: what its rows are.
        plan: of the bucket.
        constants: value id -> array, of the bucket.
        executables: by segment.
        tallies: where calls and their seconds are counted.
        source: of calls, for probes.
    """

    aligned: Aligned
    plan: Plan
    constants: Mapping[str, Array]
    executables: Mapping[str, Executable]
    tallies: Tallies
    source: Source


def body_of(
    one: Manifest,
    many: Manifest,
    constants: Mapping[str, Array],
    executables: Mapping[str, Executable],
    tallies: Tallies,
    source: Source,
) -> Body:
    """A bucket's body beside that of one request.

    Raises:
        UsageError: requests cannot share its steps; says why.
    """
    varied = {value for variant in many.variants for value in variant.constants}
    aligned = check_steps(one.plan, many.plan, many.batch.rows if many.batch else 1, varied)
    return Body(aligned, many.plan, constants, executables, tallies, source)


def check_steps(one: Plan, many: Plan, rows: int, varied: Collection[str]) -> Aligned:
    """How requests at different steps share a bucket's loop.

    Args:
        one: of the bucket of one request.
        many: of the bucket.
        rows: of the bucket.
        varied: ids of the bucket's constants that differ between variants.

    Raises:
        UsageError: they cannot; says why.
    """
    aligned = align(one, many, rows)
    own = next((value for value in aligned.constants if value in varied), None)
    if own is not None:
        raise UsageError(
            f"requests at different steps cannot share calls: {own!r} differs between variants, "
            "and has no row for each request",
            advice="build without --step-batching",
        )
    return aligned


class SharedBody:
    """A bucket's body with arrays of its own. Belongs to one thread.

    Args:
        body: what it runs.
    """

    def __init__(self, body: Body) -> None:
        self._aligned = body.aligned
        self._arrays: dict[str, Array] = {v: body.constants[v] for v in body.aligned.constants}
        self._calls: list[tuple[str, Bound]] = []
        self._tallies, self._source = body.tallies, body.source
        for step in body.aligned.body:
            bound = Bound(body.executables[step.segment], Tally())
            for index, value in enumerate(step.inputs):
                bound.read(index, self._array(body.plan, value))
            for index, value in enumerate(step.outputs):
                bound.write(index, self._array(body.plan, value))
            self._calls.append((step.segment, bound))
        #: Who stands in which row; rows in which nobody has stood yet hold what the first one had.
        self._lanes: list[Lane | None] = [None] * body.aligned.rows
        self._fresh = True

    @property
    def rows(self) -> int:
        return self._aligned.rows

    def step(self, lanes: Sequence[Lane]) -> None:
        """Make a step of each lane, at most as many as there are rows.

        Raises:
            BackendError: a segment failed; then no lane has changed.
        """
        places = self._settle(lanes)
        aligned = self._aligned
        for row, lane in places:
            for place, array in zip(aligned.carries, lane.stepped.carried, strict=True):
                self._put(place, row, array)
            for place in aligned.slices:
                assert place.source is not None
                self._put(place, row, lane.stepped.value(place.source)[lane.trip, ...])
        self._fresh = False
        spent: dict[str, Tally] = {}
        try:
            with serving(*(lane.request.follower for lane in lanes)), call(self._source) as watch:
                self._run(watch, spent)
        finally:
            self._tallies.add(spent)
        for row, lane in places:
            pairs = zip(aligned.nexts, aligned.carries, lane.stepped.carried, strict=True)
            for value, place, array in pairs:
                rows = _rows(self._arrays[value], place.axis, row, aligned.rows)
                array[...] = rows.reshape(array.shape)

    def _run(self, watch: Watch | None, spent: dict[str, Tally]) -> None:
        clock = perf_counter()
        for segment, bound in self._calls:
            began = perf_counter_ns() if watch is not None else 0
            bound.call.run()
            if watch is not None:
                watch.span("segment", segment, began, perf_counter_ns())
            now = perf_counter()
            tally = spent.setdefault(segment, Tally())
            tally.calls, tally.seconds = tally.calls + 1, tally.seconds + now - clock
            clock = now

    def _settle(self, lanes: Sequence[Lane]) -> list[tuple[int, Lane]]:
        """A row for each lane: its own of the last step, else one of somebody who has left."""
        staying = {lane: row for row, lane in enumerate(self._lanes) if lane in lanes}
        free = [row for row, lane in enumerate(self._lanes) if lane not in staying]
        for lane in lanes:
            if lane in staying:
                continue
            row = staying[lane] = free.pop(0)
            self._lanes[row] = lane
            for place in self._aligned.invariants:
                self._put(place, row, lane.stepped.value(place.own))
        return [(staying[lane], lane) for lane in lanes]

    def _put(self, place: Place, row: int, array: Array) -> None:
        # At first rows are taken from the first on, so this fills those that stay without a lane.
        rows = range(row, self._aligned.rows) if self._fresh else (row,)
        for each in rows:
            own = _rows(self._arrays[place.value], place.axis, each, self._aligned.rows)
            own[...] = array.reshape(own.shape)

    def _array(self, plan: Plan, value: str) -> Array:
        array = self._arrays.get(value)
        if array is None:
            spec = plan.values[value]
            shape = tuple(size for size in spec.shape if isinstance(size, int))
            array = self._arrays[value] = np.zeros(shape, spec.dtype)
        return array


def _rows(array: Array, axis: int, row: int, rows: int) -> Array:
    """The view of what belongs to one row: of each block of rows along an axis, one."""
    shape = array.shape
    blocks = array.reshape(*shape[:axis], shape[axis] // rows, rows, *shape[axis + 1 :])
    return blocks[(*[slice(None)] * (axis + 1), row)]


class Bodies:
    """The bodies of all buckets for one thread, each made when it is first needed.

    Args:
        sizes: of the buckets, in rising order.
        load: gives the body of a bucket.
    """

    def __init__(self, sizes: Sequence[int], load: Callable[[int], Body]) -> None:
        self.sizes = sizes
        self._load = load
        self._made: dict[int, SharedBody] = {}

    def of(self, lanes: int) -> SharedBody:
        """The smallest that holds so many lanes."""
        size = next(size for size in self.sizes if size >= lanes)
        if size not in self._made:
            self._made[size] = SharedBody(self._load(size))
        return self._made[size]


def drive(lanes: list[Lane], bodies: Bodies, joining: Callable[[int], list[Lane]]) -> None:
    """Make steps until every lane is answered.

    Args:
        lanes: to begin with.
        bodies: the largest holds all lanes that there may be at a time.
        joining: gives at most so many more lanes; asked before each step.
    """
    try:
        while True:
            lanes = [lane for lane in lanes if not lane.done]
            room = bodies.sizes[-1] - len(lanes)
            lanes += [lane for lane in (joining(room) if room else ()) if not lane.done]
            if not lanes:
                return
            for lane in _stepped(lanes, bodies):
                lane.advance()
    except BaseException as error:
        # Whatever it is, nobody is left without an answer.
        for lane in lanes:
            if not lane.done:
                lane.fail(error)
        raise


def _stepped(lanes: Sequence[Lane], bodies: Bodies) -> list[Lane]:
    """Make a step; gives the lanes that made it. Where it fails each makes it by itself, and those
    that fail then are answered by that."""
    try:
        bodies.of(len(lanes)).step(lanes)
    except BaseException as error:  # noqa: BLE001 - it is the answer of whoever it is the fault of
        if len(lanes) == 1:
            lanes[0].fail(error)
            return []
        tell("step", len(lanes), error)
        return [one for lane in lanes for one in _stepped([lane], bodies)]
    return list(lanes)
