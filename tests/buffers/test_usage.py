"""The figures of a plan."""

from __future__ import annotations

from partitioner.buffers import RULES, MemoryUse, measure
from partitioner.plan import Call, Carry, Stacked
from partitioner.specs import TensorSpec
from tests.buffers.test_liveness import plan_of, stepping


def test_figures_of_a_plan_in_which_everything_occurs() -> None:
    """They change with the rules only: raise ``RULES`` when this test must change."""
    body = [
        Call("step", ("inner", "code"), ("next", "h")),
        Call("render", ("h",), ("picture",)),
        Call("look", ("picture", "older"), ("seen", "rows")),
    ]
    carries = (Carry("start", "inner", "next", "final"), Carry("x", "older", "inner", None))
    loop = stepping(
        4, body=body, carries=carries, stacked=(Stacked("seen", "all"), Stacked("h", "hs"))
    )
    steps = [
        Call("encode", ("x",), ("code", "start")),
        loop,
        Call("decode", ("final", "hs"), ("y", "mesh")),
    ]
    unknown = TensorSpec("float32", (None, 3))
    specs = {"rows": unknown, "mesh": unknown}
    plan = plan_of(steps, {"y": "y", "all": "all"}, specs, hosts=["render"])

    # code; four rows of h; the carried value in three places, one of which it started in.
    alive = 64 * (1 + 4 + 3)
    assert MemoryUse(
        rules=RULES,
        peak=alive + 64 * (1 + 4) + 64,
        arena=alive,
        outputs=64 * (1 + 4),
        loose=64,
        alive=alive,
        unsized=2,
        inputs=64,
        draws=0,
        constants=0,
        loops={"loop": alive + 64 * 4 + 64},
    ) == measure(plan)
    assert 1 == RULES
