"""The check finds what is wrong with a buffer plan, and believes what is right."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from partitioner.buffers import BufferPlan, plan_buffers
from partitioner.buffers.check import check_buffers
from partitioner.errors import ProgramError
from partitioner.plan import Call, Loop, Plan, Stacked
from partitioner.runtime import schedule as scheduling
from partitioner.runtime.runner import Run
from partitioner.specs import TensorSpec
from tests.buffers.test_liveness import plan_of, stepping
from tests.plans import Planner, interpret

Change = Callable[[BufferPlan], BufferPlan]


def line() -> Plan:
    """Two values alive at once, a third later, an output."""
    steps = [
        Call("a", ("x",), ("v", "w")),
        Call("b", ("v", "w"), ("u",)),
        Call("c", ("u",), ("y",)),
    ]
    return plan_of(steps, {"y": "y"})


def loop() -> Plan:
    """A carried value, read after the next one is written; a value beside it; rows of both."""
    body = [
        Call("step", ("inner",), ("next", "h")),
        Call("look", ("inner", "h"), ("seen",)),
    ]
    made = stepping(6, body=body, stacked=(Stacked("seen", "all"), Stacked("inner", "path")))
    return plan_of([made, Call("end", ("final", "all", "path"), ("y",))], {"y": "y"})


def moved(value: str, to: str) -> Change:
    """The storage of one value where that of another is."""

    def change(buffers: BufferPlan) -> BufferPlan:
        index, target = buffers.places[value][0], buffers.places[to][0]
        assert isinstance(index, int)
        assert isinstance(target, int)
        return edited(buffers, index, offset=buffers.storages[target].offset)

    return change


def edited(buffers: BufferPlan, index: int, **changes: Any) -> BufferPlan:
    storages = list(buffers.storages)
    storages[index] = replace(storages[index], **changes)
    return replace(buffers, storages=tuple(storages))


def placed(**places: tuple[int | str, ...]) -> Change:
    return lambda buffers: replace(buffers, places={**buffers.places, **places})


def without(value: str) -> Change:
    return lambda buffers: replace(
        buffers, places={name: ring for name, ring in buffers.places.items() if name != value}
    )


def in_storage_of(value: str, **changes: Any) -> Change:
    def change(buffers: BufferPlan) -> BufferPlan:
        index = buffers.places[value][0]
        assert isinstance(index, int)
        return edited(buffers, index, **changes)

    return change


def half_ring(buffers: BufferPlan) -> BufferPlan:
    return replace(buffers, places={**buffers.places, "next": buffers.places["next"][:1]})


@pytest.mark.parametrize(
    ("plan", "change", "message"),
    [
        (line, moved("v", "w"), "'a' writes 'w' over 'v'"),
        (line, moved("u", "v"), "'b' writes 'u' over 'v'"),
        (line, in_storage_of("y", kind="arena"), "the output 'y' stands in the arena"),
        (line, in_storage_of("v", offset=8), "no multiple of 64"),
        (line, in_storage_of("v", offset=-64), "no multiple of 64"),
        (line, in_storage_of("v", offset=2**20), "beyond the arena"),
        (line, in_storage_of("v", nbytes=32), "has 32 bytes for float32[16]"),
        (line, in_storage_of("v", kind="loose"), "that nobody allocates"),
        (line, in_storage_of("v", spec=TensorSpec("int32", (16,))), "stands where int32[16] does"),
        (line, without("v"), "'v' has no place"),
        (loop, half_ring, "'step' writes 'next' over 'inner'"),
        (loop, moved("next", "h"), "'step' writes 'h' over 'next'"),
        (loop, moved("path", "all"), "after something else was written there"),
        (loop, moved("h", "path"), "after something else was written there"),
        (loop, moved("final", "path"), "after something else was written there"),
        (loop, without("final"), "'final' has no place"),
    ],
)
def test_what_is_wrong_is_found(plan: Callable[[], Plan], change: Change, message: str) -> None:
    made = plan()
    buffers = plan_buffers(made)
    check_buffers(made, buffers)
    with pytest.raises(ProgramError) as caught:
        check_buffers(made, change(buffers))
    assert message in str(caught.value)


# --- against real runs --------------------------------------------------------------------------


def gives(plan: Plan, planner: Planner, buffers: BufferPlan) -> Mapping[str, Any] | None:
    """What a run gives in the places of a buffer plan; None if a call is given shared memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scheduling, "plan_buffers", lambda plan: buffers)
        scheduled = scheduling.schedule(plan)
    try:
        return Run(planner.segments, scheduled, planner.start).run()
    except AssertionError:
        return None


def spoiled(source: random.Random, buffers: BufferPlan) -> BufferPlan:
    """Some storage where another is, or a ring cut short."""
    rings = [value for value, ring in buffers.places.items() if len(ring) > 1]
    if rings and source.random() < 0.5:
        value = source.choice(rings)
        return replace(buffers, places={**buffers.places, value: buffers.places[value][:-1]})
    inside = [i for i, s in enumerate(buffers.storages) if s.kind == "arena"]
    if not inside:
        return buffers
    offset = buffers.storages[source.choice(inside)].offset
    bad = edited(buffers, source.choice(inside), offset=offset)
    return replace(bad, arena=2 * buffers.arena)


@given(st.integers(0, 2**32).map(random.Random))
@settings(
    max_examples=250,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_what_the_check_lets_through_gives_the_right_numbers(source: random.Random) -> None:
    planner = Planner(source)
    plan = planner.plan()
    bad = spoiled(source, plan_buffers(plan))
    try:
        check_buffers(plan, bad)
    except ProgramError:
        return
    actual = gives(plan, planner, bad)
    assert actual is not None
    for name, array in interpret(plan, planner.segments, planner.start).items():
        np.testing.assert_array_equal(array, actual[name])


def test_loops_of_many_trips_are_checked_by_a_few() -> None:
    made = loop()
    (first, *rest) = made.steps
    assert isinstance(first, Loop)
    rows = TensorSpec("float32", (10**6, 16))
    values = {**made.values, "all": rows, "path": rows}
    infos = dict(made.segments)
    end = infos["end"]
    infos["end"] = replace(end, inputs=tuple((name, values[name]) for name, _ in end.inputs))
    steps = (replace(first, trips=10**6), *rest)
    long = replace(made, values=values, steps=steps, segments=infos)
    buffers = plan_buffers(long)
    check_buffers(long, buffers)
    with pytest.raises(ProgramError):
        check_buffers(long, half_ring(buffers))
