"""Where values lie, how often segments are called, and what crosses between devices."""

from __future__ import annotations

from partitioner.plan import Call, Carry, Loop, Plan, Slice, Stacked, Step
from partitioner.planning.flow import Crossing, Flow, follow
from partitioner.specs import TensorSpec

ROW = TensorSpec("float32", (2, 3))


def flow(steps: tuple[Step, ...], devices: dict[str, str], **more: object) -> Flow:
    """Of a plan whose values all have the same type."""
    values = dict.fromkeys(("x", "w", "a", "b", "c", "d", "in", "row", "last", "all", "table"), ROW)
    plan = Plan(
        values=values,
        inputs={"x": "x"},
        constants=("table", "w"),
        draws=(),
        steps=steps,
        outputs=more.get("outputs", {}),  # pyright: ignore
    )
    return follow(plan, devices, "cpu")


def crossing(value: str, start: str, end: str, times: int = 1) -> Crossing:
    return Crossing(value, 24, start, end, times)


def looped(body: tuple[Step, ...], following: str, slices: tuple[Slice, ...] = ()) -> Loop:
    return Loop("loop", 5, (Carry("a", "in", following, "last"),), slices, (), body)


def test_inputs_go_there_and_outputs_come_back():
    found = flow((Call("s", ("x",), ("a",)),), {"s": "far"}, outputs={"y": "a"})
    assert (crossing("x", "cpu", "far"), crossing("a", "far", "cpu")) == found.crossings
    assert {"s": 1} == found.calls
    assert {"far", "cpu"} == found.places["a"]


def test_a_value_that_two_segments_of_a_device_read_crosses_once():
    steps = (Call("s", ("x",), ("a",)), Call("t", ("x", "a"), ("b",)))
    found = flow(steps, {"s": "far", "t": "far"})
    assert (crossing("x", "cpu", "far"),) == found.crossings
    assert {"s", "t"} == found.readers["x"]


def test_constants_that_segments_read_are_there_from_loading_on():
    found = flow((Call("s", ("w",), ("a",)),), {"s": "far"})
    assert () == found.crossings


def test_what_a_loop_carries_on_its_device_is_no_transfer():
    steps = (Call("s", ("x",), ("a",)), looped((Call("t", ("in",), ("b",)),), "b"))
    found = flow(steps, {"s": "far", "t": "far"}, outputs={"y": "last"})
    assert (crossing("x", "cpu", "far"), crossing("b", "far", "cpu")) == found.crossings
    assert {"s": 1, "t": 5} == found.calls


def test_what_a_loop_carries_to_another_device_crosses_in_every_trip_but_the_first():
    body = (Call("t", ("in",), ("b",)), Call("u", ("b",), ("c",)))
    steps = (Call("s", ("x",), ("a",)), looped(body, "c"))
    found = flow(steps, {"s": "far", "t": "far", "u": "cpu"})
    wanted = [("x", "cpu", "far", 1), ("b", "far", "cpu", 5), ("c", "cpu", "far", 4)]
    assert [crossing(*one) for one in wanted] == list(found.crossings)


def test_invariants_cross_once_and_rows_in_every_trip():
    body = (Call("t", ("in", "x", "row"), ("b",)),)
    steps = (Call("s", (), ("a",)), looped(body, "b", (Slice("table", "row"),)))
    found = flow(steps, {"s": "far", "t": "far"})
    assert (crossing("x", "cpu", "far"), crossing("row", "cpu", "far", 5)) == found.crossings


def test_what_a_loop_collects_is_collected_in_the_hosts_memory():
    loop = Loop("loop", 3, (), (), (Stacked("b", "all"),), (Call("t", ("x",), ("b",)),))
    found = flow((loop,), {"t": "far"}, outputs={"y": "all"})
    assert (crossing("x", "cpu", "far"), crossing("b", "far", "cpu", 3)) == found.crossings


def test_carries_that_change_places_have_an_end():
    loop = Loop(
        "loop",
        4,
        (Carry("a", "in", "row", None), Carry("b", "row", "in", "last")),
        (),
        (),
        (Call("t", ("in", "row"), ("c",)),),
    )
    steps = (Call("s", (), ("a", "b")), loop)
    found = flow(steps, {"s": "cpu", "t": "far"}, outputs={"y": "last"})
    # Each of the two is read under both names.
    assert [("a", "far"), ("b", "far")] == [(c.value, c.end) for c in found.crossings]
