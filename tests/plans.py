"""Random plans over segments that run on NumPy, and the plainest interpreter of a plan."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from partitioner.plan import Call, Carry, Loop, Plan, SegmentInfo, Slice, Stacked
from partitioner.specs import TensorSpec

__all__ = ["Array", "Mixer", "Planner", "Shape", "interpret"]

Array = np.ndarray[Any, Any]
Shape = tuple[int | None, ...]

#: Of the values: two sizes that fit beside one another, one that is empty, one that a plan does
#: not know.
SHAPES: tuple[Shape, ...] = ((3,), (3,), (40,), (7, 5), (0,), (None,))

#: What is unknown to the plan.
UNKNOWN = 6

#: Rows of the table that every plan begins with.
ROWS = 7


class Mixer:
    """A segment whose outputs depend on all numbers of its inputs, computed on NumPy."""

    def __init__(
        self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], backend: str
    ) -> None:
        self.inputs = tuple((f"i{index}", spec) for index, spec in enumerate(inputs))
        self.outputs = tuple((f"o{index}", spec) for index, spec in enumerate(outputs))
        self.backend = backend
        self.bound = 0

    def __call__(self, *arrays: Array) -> tuple[Array, ...]:
        mixed = 1.0
        for index, array in enumerate(arrays):
            weights = np.arange(1, array.size + 1)
            mixed = np.sin(mixed * (index + 2) + float(np.dot(array.reshape(-1), weights)))
        return tuple(
            np.cos(mixed * (index + 1) + np.arange(float(np.prod(shape)))).reshape(shape)
            for index, shape in enumerate(map(_actual, (spec for _, spec in self.outputs)))
        )

    def bind(self) -> MixerCall:
        self.bound += 1
        return MixerCall(self)

    def close(self) -> None:
        pass


class MixerCall:
    def __init__(self, owner: Mixer) -> None:
        self.owner = owner
        self.given: list[Array | None] = [None] * len(owner.inputs)
        self.wanted: list[Array | None] = [None] * len(owner.outputs)

    def set_input(self, index: int, array: Array) -> None:
        assert array.flags.c_contiguous
        self.given[index] = array

    def set_output(self, index: int, array: Array | None) -> None:
        self.wanted[index] = array

    def run(self) -> tuple[Array, ...]:
        given = [array for array in self.given if array is not None]
        wanted = [array for array in self.wanted if array is not None]
        for index, array in enumerate(wanted):
            # Memory that a call writes to must never be what this very call reads or writes, too.
            assert not any(np.shares_memory(array, other) for other in (*given, *wanted[:index]))
            # Some backends use what they are given as scratch.
            array.fill(np.nan)
        results = self.owner(*given)
        for result, array in zip(results, self.wanted, strict=True):
            if array is not None:
                array[...] = result
        return tuple(
            result if array is None else array
            for result, array in zip(results, self.wanted, strict=True)
        )


def _actual(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(dim if isinstance(dim, int) else UNKNOWN for dim in spec.shape)


def interpret(plan: Plan, segments: dict[str, Mixer], values: dict[str, Array]) -> dict[str, Any]:
    """The plan's meaning, with a copy at every turn."""
    env = {name: array.copy() for name, array in values.items()}

    def steps(body: Sequence[Call | Loop]) -> None:
        for step in body:
            if isinstance(step, Call):
                results = segments[step.segment](*(env[name].copy() for name in step.inputs))
                env.update(zip(step.outputs, results, strict=True))
                continue
            carried = [env[carry.init].copy() for carry in step.carries]
            rows: dict[str, list[Array]] = {stacked.result: [] for stacked in step.stacked}
            for trip in range(step.trips):
                env.update((c.inner, v) for c, v in zip(step.carries, carried, strict=True))
                env.update((s.inner, env[s.source][trip].copy()) for s in step.slices)
                steps(step.body)
                carried = [env[carry.next].copy() for carry in step.carries]
                for stacked in step.stacked:
                    rows[stacked.result].append(env[stacked.inner].copy())
            env.update((c.final, v) for c, v in zip(step.carries, carried, strict=True) if c.final)
            env.update((name, np.stack(row)) for name, row in rows.items())

    steps(plan.steps)
    return {name: env[value] for name, value in plan.outputs.items()}


@dataclass
class Planner:
    """Makes random plans: loops in loops, carries of every kind, host ops, unknown sizes."""

    random: random.Random
    depth: int = 3
    values: dict[str, TensorSpec] = field(default_factory=dict[str, TensorSpec])
    segments: dict[str, Mixer] = field(default_factory=dict[str, Mixer])
    start: dict[str, Array] = field(default_factory=dict[str, Array])

    def plan(self) -> Plan:
        """A plan; ``segments`` and ``start`` are then what it needs to be run."""
        known = [self.given(shape) for shape in dict.fromkeys(SHAPES) if None not in shape]
        inputs = list(known)
        tables = [self.given((ROWS, *shape)) for shape in ((3,), (40,))]
        steps = self.steps(known, tables, self.depth)
        names = [self.random.choice(known) for _ in range(self.random.randint(1, 4))]
        names.append(self.random.choice(tables))
        return Plan(
            self.values,
            {value: value for value in inputs},
            tuple(value for value in self.start if value not in inputs),
            (),
            tuple(steps),
            {f"out{index}": name for index, name in enumerate(names)},
            {
                name: SegmentInfo(name, made.backend, made.inputs, made.outputs)
                for name, made in self.segments.items()
            },
        )

    def given(self, shape: Shape) -> str:
        name = self.new(shape)
        size = _actual(self.values[name])
        self.start[name] = np.linspace(-1, 1, int(np.prod(size))).reshape(size)
        return name

    def new(self, shape: Shape) -> str:
        name = f"v{len(self.values)}"
        self.values[name] = TensorSpec("float64", shape)
        return name

    def coin(self, chance: float) -> bool:
        return self.random.random() < chance

    def steps(self, known: list[str], tables: list[str], depth: int) -> list[Call | Loop]:
        """Steps over known values; what they leave is added to ``known`` and ``tables``."""
        made: list[Call | Loop] = []
        for _ in range(self.random.randint(1, 3)):
            if depth and self.coin(0.5):
                made.append(self.loop(known, tables, depth))
            else:
                made.append(self.call(known))
        return made

    def call(self, known: list[str]) -> Call:
        backend = self.random.choice(["onnx", "onnx", "onnx", "host"])
        shapes = [s for s in SHAPES if backend == "host" or None not in s]
        # Late values are read more often, so that few are alive at once.
        inputs = tuple(self.pick(known) for _ in range(self.random.randint(0, 3)))
        outputs = tuple(
            self.new(self.random.choice(shapes)) for _ in range(self.random.randint(1, 2))
        )
        specs = [[self.values[value] for value in side] for side in (inputs, outputs)]
        name = f"{backend}-{len(self.segments)}"
        self.segments[name] = Mixer(specs[0], specs[1], backend)
        known.extend(outputs)
        return Call(name, inputs, outputs)

    def pick(self, known: Sequence[str]) -> str:
        return self.random.choice(known[-5:] if self.coin(0.7) else known)

    def loop(self, known: list[str], tables: list[str], depth: int) -> Loop:
        fitting = [table for table in tables if self.coin(0.7)]
        rows = [self.values[table].shape[0] for table in fitting]
        trips = min([self.random.randint(1, ROWS), *(r for r in rows if isinstance(r, int))])
        inits = [self.pick(known) for _ in range(self.random.randint(0, 4))]
        inners = [self.new(self.values[init].shape) for init in inits]
        slices = tuple(Slice(table, self.new(self.values[table].shape[1:])) for table in fitting)
        inside = [*known, *inners, *(part.inner for part in slices)]
        body = self.steps(inside, list(tables), depth - 1)
        carries = tuple(
            Carry(init, inner, self.following(inner, inners, inside), self.final(inner))
            for init, inner in zip(inits, inners, strict=True)
        )
        stacked = tuple(
            Stacked(inner, self.new((trips, *self.values[inner].shape)))
            for inner in (self.pick(inside) for _ in range(self.random.randint(0, 3)))
        )
        known.extend(carry.final for carry in carries if carry.final)
        tables.extend(part.result for part in stacked)
        return Loop(f"loop{len(self.values)}", trips, carries, slices, stacked, tuple(body))

    def following(self, inner: str, inners: Sequence[str], inside: Sequence[str]) -> str:
        """A next value: most often one of the trip, or what another carry holds now."""
        same = [value for value in inside if self.values[value] == self.values[inner]]
        chained = [value for value in inners if value in same]
        return self.random.choice(chained if self.coin(0.3) else same[-3:])

    def final(self, inner: str) -> str | None:
        return self.new(self.values[inner].shape) if self.coin(0.7) else None
