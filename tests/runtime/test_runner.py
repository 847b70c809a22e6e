"""Runs of small plans: bindings, events, what is observed. Random ones are in tests/buffers."""

from __future__ import annotations

import numpy as np

from partitioner.plan import Call, Carry, Loop, Plan, SegmentInfo, Slice, Stacked
from partitioner.runtime.events import StepEvent
from partitioner.runtime.runner import Run
from partitioner.runtime.schedule import CallStep, LoopStep, schedule
from partitioner.specs import TensorSpec
from tests.plans import Array, Mixer

SHAPE = (3,)
SPEC = TensorSpec("float64", SHAPE)


def mixer(arity: int) -> Mixer:
    """A segment with two outputs."""
    return Mixer([SPEC] * arity, [SPEC] * 2, "onnx")


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
    two = mixer(2)
    infos = {"two": SegmentInfo("two", "onnx", two.inputs, two.outputs)}
    return Plan(values, {"x": "x"}, ("table",), (), (loop,), {"y": "final"}, infos)


def test_a_loop_keeps_one_bound_call_for_a_segment() -> None:
    plan, two = counting_plan(50), mixer(2)
    start = {"x": np.zeros(SHAPE), "table": np.zeros((50, *SHAPE))}
    Run({"two": two}, schedule(plan), start).run()

    assert 1 == two.bound


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
        {"two": mixer(2)},
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
        {"two": mixer(2)},
        schedule(plan),
        {"x": np.zeros(SHAPE), "table": np.zeros((3, *SHAPE))},
        observe=lambda segment, call, outputs: seen.append((segment, call, dict(outputs))),
    )
    run.run()

    assert [("two", 0), ("two", 1), ("two", 2)] == [(name, call) for name, call, _ in seen]
    carried = np.zeros(SHAPE)
    for _, _, outputs in seen:
        expected = mixer(2)(carried, np.zeros(SHAPE))
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
    one = mixer(1)
    infos = {"one": SegmentInfo("one", "onnx", one.inputs, one.outputs)}
    plan = Plan(values, {"x": "x"}, (), (), (loop,), {"all": "all"}, infos)
    actual = Run({"one": one}, schedule(plan), {"x": np.zeros(SHAPE)}).run()
    first, first_other = one(np.zeros(SHAPE))
    expected = np.stack([first_other, one(first)[1]])

    np.testing.assert_array_equal(expected, actual["all"])
