"""Random plans, run on NumPy and compared with the plainest interpreter of a plan."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from partitioner.plan import Call, Carry, Loop, Plan, SegmentInfo, Slice, Stacked
from partitioner.runtime.events import StepEvent
from partitioner.runtime.runner import Run
from partitioner.runtime.schedule import CallStep, LoopStep, schedule
from partitioner.specs import TensorSpec

Array = np.ndarray[Any, Any]
SHAPE = (3,)
SPEC = TensorSpec("float64", SHAPE)


class Affine:
    """A segment of any number of inputs and two outputs, computed on NumPy."""

    def __init__(self, arity: int, *, writes: bool = True) -> None:
        self.inputs = tuple((f"i{index}", SPEC) for index in range(arity))
        self.outputs = (("o0", SPEC), ("o1", SPEC))
        self.writes_outputs = writes
        self.bound = 0

    def __call__(self, *arrays: Array) -> tuple[Array, ...]:
        mixed = sum((index + 1) * array for index, array in enumerate(arrays)) + np.ones(SHAPE)
        return np.sin(mixed), np.cos(mixed)

    def bind(self) -> AffineCall:
        self.bound += 1
        return AffineCall(self)

    def close(self) -> None:
        pass


class AffineCall:
    def __init__(self, owner: Affine) -> None:
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
        for wanted in self.wanted:
            # An output buffer must never be one that this very call reads.
            assert wanted is None or not any(np.shares_memory(wanted, array) for array in given)
        results = self.owner(*given)
        for result, wanted in zip(results, self.wanted, strict=True):
            if wanted is not None:
                wanted[...] = result
        return tuple(
            result if wanted is None else wanted
            for result, wanted in zip(results, self.wanted, strict=True)
        )


def interpret(plan: Plan, segments: dict[str, Affine], values: dict[str, Array]) -> dict[str, Any]:
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


class Planner:
    """Makes a random plan over two segments, one of which allocates for itself."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.values: dict[str, TensorSpec] = {}
        self.segments = {
            "one": Affine(1),
            "two": Affine(2),
            "three": Affine(3, writes=False),
        }

    def new(self, shape: tuple[int, ...] = SHAPE) -> str:
        name = f"v{len(self.values)}"
        self.values[name] = TensorSpec("float64", shape)
        return name

    def steps(self, known: list[str], tables: list[str], depth: int) -> list[Call | Loop]:
        """Steps over known values; what they leave is added to ``known`` and ``tables``."""
        made: list[Call | Loop] = []
        for _ in range(self.random.randint(1, 3)):
            if depth and self.random.random() < 0.5:
                made.append(self.loop(known, tables, depth))
            else:
                made.append(self.call(known))
        return made

    def call(self, known: list[str]) -> Call:
        segment = self.random.choice(list(self.segments))
        arity = len(self.segments[segment].inputs)
        inputs = tuple(self.random.choice(known) for _ in range(arity))
        outputs = (self.new(), self.new())
        known.extend(outputs)
        return Call(segment, inputs, outputs)

    def loop(self, known: list[str], tables: list[str], depth: int) -> Loop:
        trips = 4
        inside = list(known)
        inits = [self.random.choice(known) for _ in range(self.random.randint(0, 3))]
        inners = [self.new() for _ in inits]
        slices = tuple(
            Slice(self.random.choice(tables), self.new()) for _ in range(self.random.randint(0, 2))
        )
        inside.extend((*inners, *(part.inner for part in slices)))
        body = self.steps(inside, list(tables), depth - 1)
        # Next values may be anything: another carry's inner, a row of a table, an outer value.
        carries = tuple(
            Carry(init, inner, self.random.choice(inside), self.new() if self.coin(0.7) else None)
            for init, inner in zip(inits, inners, strict=True)
        )
        stacked = tuple(
            Stacked(self.random.choice(inside), self.new((trips, *SHAPE)))
            for _ in range(self.random.randint(0, 3))
        )
        known.extend(carry.final for carry in carries if carry.final)
        tables.extend(part.result for part in stacked)
        return Loop(f"loop{len(self.values)}", trips, carries, slices, stacked, tuple(body))

    def coin(self, chance: float) -> bool:
        return self.random.random() < chance

    def plan(self) -> tuple[Plan, dict[str, Array]]:
        x, table = self.new(), self.new((4, *SHAPE))
        known, tables = [x], [table]
        steps = self.steps(known, tables, 3)
        names = [*self.random.sample(known, min(3, len(known))), self.random.choice(tables)]
        infos = {
            name: SegmentInfo(name, "onnx", s.inputs, s.outputs)
            for name, s in self.segments.items()
        }
        plan = Plan(
            self.values,
            {"x": x},
            (table,),
            (),
            tuple(steps),
            {f"out{index}": name for index, name in enumerate(names)},
            infos,
        )
        rng = np.random.default_rng(0)
        return plan, {x: rng.standard_normal(SHAPE), table: rng.standard_normal((4, *SHAPE))}


@pytest.mark.parametrize("seed", range(150))
def test_random_plans(seed: int) -> None:
    planner = Planner(seed)
    plan, start = planner.plan()
    before = {name: array.copy() for name, array in start.items()}
    expected = interpret(plan, planner.segments, start)

    actual = Run(planner.segments, schedule(plan), start).run()

    assert list(expected) == list(actual)
    for name, array in expected.items():
        np.testing.assert_array_equal(array, actual[name])
        # The outputs are the caller's own.
        assert not any(np.shares_memory(actual[name], given) for given in start.values())
    pairs = [(a, b) for a in actual.values() for b in actual.values() if a is not b]
    assert not any(np.shares_memory(a, b) for a, b in pairs)
    for name, array in before.items():
        np.testing.assert_array_equal(array, start[name])


def counting_plan(trips: int) -> Plan:
    """x is carried through segment "two" with a row of a table each trip."""
    values = dict.fromkeys(("x", "inner", "row", "next", "other", "final"), SPEC)
    values["table"] = TensorSpec("float64", (trips, *SHAPE))
    loop = Loop(
        "steps",
        trips,
        (Carry("x", "inner", "next", "final"),),
        (Slice("table", "row"),),
        (),
        (Call("two", ("inner", "row"), ("next", "other")),),
    )
    two = Affine(2)
    infos = {"two": SegmentInfo("two", "onnx", two.inputs, two.outputs)}
    return Plan(values, {"x": "x"}, ("table",), (), (loop,), {"y": "final"}, infos)


def test_a_loop_binds_a_call_once_for_each_turn_of_its_places() -> None:
    plan, two = counting_plan(50), Affine(2)
    start = {"x": np.zeros(SHAPE), "table": np.zeros((50, *SHAPE))}
    Run({"two": two}, schedule(plan), start).run()

    # The carried value takes two places in turn.
    assert 2 == two.bound


def test_what_the_buffer_plan_does_not_own_is_dropped_after_its_last_use() -> None:
    (step,) = schedule(counting_plan(2)).steps
    assert isinstance(step, LoopStep)
    (call,) = step.body
    assert isinstance(call, CallStep)

    assert ("inner", "row") == call.drop
    assert () == step.drop_inside
    assert () == step.drop


def test_events() -> None:
    plan, events = counting_plan(3), list[StepEvent]()
    run = Run(
        {"two": Affine(2)},
        schedule(plan),
        {"x": np.zeros(SHAPE), "table": np.zeros((3, *SHAPE))},
        callback=events.append,
    )
    run.run()

    assert [StepEvent("steps", step, 3) for step in range(3)] == events
    assert [1 / 3, 2 / 3, 1.0] == [event.done for event in events]


def test_observe_counts_calls_and_hands_out_copies() -> None:
    plan, seen = counting_plan(3), list[tuple[str, int, dict[str, Array]]]()
    run = Run(
        {"two": Affine(2)},
        schedule(plan),
        {"x": np.zeros(SHAPE), "table": np.zeros((3, *SHAPE))},
        observe=lambda segment, call, outputs: seen.append((segment, call, dict(outputs))),
    )
    run.run()

    assert [("two", 0), ("two", 1), ("two", 2)] == [(name, call) for name, call, _ in seen]
    carried = np.zeros(SHAPE)
    for _, _, outputs in seen:
        expected = Affine(2)(carried, np.zeros(SHAPE))
        np.testing.assert_array_equal(expected[0], outputs["o0"])
        np.testing.assert_array_equal(expected[1], outputs["o1"])
        carried = expected[0]


def test_collected_values_of_unknown_size() -> None:
    values = {"x": SPEC, "inner": SPEC, "next": SPEC, "o": TensorSpec("float64", (None,))}
    values["all"] = TensorSpec("float64", (2, None))
    loop = Loop(
        "grow",
        2,
        (Carry("x", "inner", "next", None),),
        (),
        (Stacked("o", "all"),),
        (Call("one", ("inner",), ("next", "o")),),
    )
    one = Affine(1)
    infos = {"one": SegmentInfo("one", "onnx", one.inputs, one.outputs)}
    plan = Plan(values, {"x": "x"}, (), (), (loop,), {"all": "all"}, infos)
    actual = Run({"one": one}, schedule(plan), {"x": np.zeros(SHAPE)}).run()
    first, first_other = one(np.zeros(SHAPE))
    expected = np.stack([first_other, one(first)[1]])

    np.testing.assert_array_equal(expected, actual["all"])
