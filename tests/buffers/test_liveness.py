"""Which places values get, case by case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from partitioner.buffers import BufferPlan, plan_buffers
from partitioner.buffers.check import check_buffers
from partitioner.plan import Call, Carry, Loop, Plan, SegmentInfo, Slice, Stacked, Step
from partitioner.specs import TensorSpec

SPEC = TensorSpec("float32", (16,))


def plan_of(
    steps: Sequence[Step],
    outputs: Mapping[str, str],
    specs: Mapping[str, TensorSpec] | None = None,
    hosts: Sequence[str] = (),
) -> Plan:
    """A plan on the input ``x``; values are of one type unless ``specs`` says otherwise."""
    values: dict[str, TensorSpec] = {"x": SPEC}
    segments: dict[str, SegmentInfo] = {}

    def see(steps: Sequence[Step]) -> None:
        for step in steps:
            if isinstance(step, Loop):
                for carry in step.carries:
                    names = (carry.init, carry.inner, carry.next, carry.final)
                    values.update({name: SPEC for name in names if name})
                values.update({part.inner: SPEC for part in step.slices})
                rows = TensorSpec("float32", (step.trips, 16))
                values.update({part.result: rows for part in step.stacked})
                see(step.body)
            else:
                for value in (*step.inputs, *step.outputs):
                    values.setdefault(value, SPEC)

    def info(step: Call) -> SegmentInfo:
        sides = [tuple((v, values[v]) for v in side) for side in (step.inputs, step.outputs)]
        backend = "host" if step.segment in hosts else "onnx"
        return SegmentInfo(step.segment, backend, sides[0], sides[1])

    def describe(steps: Sequence[Step]) -> None:
        for step in steps:
            if isinstance(step, Loop):
                describe(step.body)
            else:
                segments[step.segment] = info(step)

    see(steps)
    values.update(specs or {})
    describe(steps)
    return Plan(values, {"x": "x"}, (), (), tuple(steps), dict(outputs), segments)


def planned(plan: Plan) -> BufferPlan:
    buffers = plan_buffers(plan)
    check_buffers(plan, buffers)
    return buffers


def stepping(trips: int = 5, init: str = "x", body: Sequence[Step] = (), **changes: object) -> Loop:
    steps = body or (Call("step", ("inner",), ("next",)),)
    loop = Loop("loop", trips, (Carry(init, "inner", "next", "final"),), (), (), tuple(steps))
    return replace(loop, **changes)


# --- straight lines -----------------------------------------------------------------------------


def test_values_that_do_not_meet_share_memory_and_outputs_are_the_callers() -> None:
    chain = [Call(f"s{i}", (f"v{i}" if i else "x",), (f"v{i + 1}",)) for i in range(5)]
    buffers = planned(plan_of(chain, {"y": "v5"}))

    assert 2 * 64 == buffers.arena
    kinds = [storage.kind for storage in buffers.storages]
    assert ["arena"] * 4 + ["output"] == kinds


def test_what_a_call_reads_and_writes_never_shares_memory() -> None:
    steps = [Call("a", ("x",), ("v",)), Call("b", ("v",), ("w", "unread")), Call("c", ("w",), ())]
    assert 3 * 64 == planned(plan_of(steps, {})).arena


def test_unknown_sizes_and_results_of_host_ops_are_not_in_the_arena() -> None:
    steps = [Call("a", ("x",), ("v", "u")), Call("b", ("v",), ("w",)), Call("c", ("w", "u"), ())]
    unknown = TensorSpec("float32", (None, 3))
    buffers = planned(plan_of(steps, {}, {"u": unknown}, hosts=["b"]))

    assert ("u",) == buffers.unsized
    assert {"v"} == set(buffers.places)
    assert ["arena", "loose"] == [storage.kind for storage in buffers.storages]


# --- carries ------------------------------------------------------------------------------------


def test_a_carried_value_takes_two_places_in_turn_and_ends_in_that_of_the_result() -> None:
    buffers = planned(plan_of([stepping()], {"y": "final"}))

    first, second = buffers.places["next"]
    assert (first,) == buffers.places["final"]
    assert first != second
    assert "output" == buffers.storages[first].kind


def test_it_is_updated_in_place_if_it_is_read_for_the_last_time_before_it_is_written() -> None:
    body = [Call("read", ("inner",), ("h",)), Call("step", ("h",), ("next",))]
    buffers = planned(plan_of([stepping(body=body)], {"y": "final"}))

    assert buffers.places["final"] == buffers.places["next"]
    assert 1 == len(buffers.places["next"])


@pytest.mark.parametrize("trips", [1, 2, 3, 4, 5])
def test_an_initial_value_that_nothing_else_reads_is_one_of_the_places(trips: int) -> None:
    steps = [Call("start", ("x",), ("v",)), stepping(trips, "v"), Call("end", ("final",), ())]
    buffers = planned(plan_of(steps, {}))

    assert 2 * 64 == buffers.arena
    assert buffers.places["v"][0] == buffers.places["next"][trips % 2]


@pytest.mark.parametrize(
    ("steps", "outputs"),
    [
        ([stepping(4, "v")], {"v": "v"}),
        ([stepping(4, "v"), Call("late", ("v",), ())], {}),
        ([stepping(4, "v", [Call("step", ("inner", "v"), ("next",))])], {}),
        ([stepping(4, "v", slices=(Slice("rows", "row"),))], {}),
    ],
)
def test_an_initial_value_that_is_read_otherwise_is_not(
    steps: Sequence[Step], outputs: Mapping[str, str]
) -> None:
    start = Call("start", ("x",), ("v",))
    rows = Call("table", ("x",), ("rows",))
    plan = plan_of([rows, start, *steps], outputs, {"rows": TensorSpec("float32", (4, 16))})
    buffers = planned(plan)

    shared = buffers.places["v"][0] in buffers.places["next"]
    # A table beside it changes nothing.
    assert bool(steps[0].slices) == shared  # pyright: ignore


def test_a_value_that_is_carried_far_takes_a_place_for_each_trip() -> None:
    carries = (
        Carry("x", "one", "next", "last"),
        Carry("x", "two", "one", "last but one"),
        Carry("x", "three", "two", None),
    )
    body = (Call("step", ("one", "two", "three"), ("next",)),)
    loop = stepping(9, body=body, carries=carries)
    buffers = planned(plan_of([loop], {"a": "last", "b": "last but one"}))

    ring = buffers.places["next"]
    assert 4 == len(ring)
    assert ring[:2] == buffers.places["last"] + buffers.places["last but one"]


def test_carries_that_change_places_need_no_memory_but_for_the_results() -> None:
    carries = (Carry("v", "a", "b", "c"), Carry("w", "b", "a", "d"))
    steps = [
        Call("start", ("x",), ("v", "w")),
        Loop("swap", 3, carries, (), (), (Call("look", ("a", "b"), ()),)),
    ]
    buffers = planned(plan_of(steps, {"c": "c", "d": "d"}))
    assert {"v", "w", "c", "d"} == set(buffers.places)


# --- stacked values and loops in loops ----------------------------------------------------------


def test_a_collected_value_is_written_straight_into_its_row() -> None:
    loop = stepping(5, stacked=(Stacked("next", "all"), Stacked("next", "again")))
    buffers = planned(plan_of([loop], {"all": "all", "y": "final"}))

    assert {"next": "all"} == buffers.rows
    assert "next" not in buffers.places
    assert {"all", "again", "final"} == set(buffers.places)


def test_the_result_of_an_inner_loop_ends_in_the_place_that_the_outer_trip_gives_it() -> None:
    inner = replace(stepping(3, "outer"), name="inner")
    outer = Loop("outer", 4, (Carry("x", "outer", "final", "end"),), (), (), (inner,))
    buffers = planned(plan_of([outer], {"y": "end"}))

    assert 2 == len(buffers.places["final"])
    assert buffers.places["end"][0] == buffers.places["final"][0]
    assert "final" == buffers.places["next"][0]


def test_variants_of_other_trips_have_places_of_their_own() -> None:
    arenas: set[int] = set()
    for trips in (3, 8):
        loop = stepping(trips, stacked=(Stacked("inner", "all"),))
        plan = plan_of([loop, Call("end", ("all",), ())], {})
        arenas.add(planned(plan).arena)
    assert {64 * (3 + 2), 64 * (8 + 2)} == arenas
