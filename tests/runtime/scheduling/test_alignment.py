"""A bucket's loop beside that of one request: what takes its rows from there, and what cannot."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from partitioner.errors import UsageError
from partitioner.plan import Call, Carry, Loop, Plan, SegmentInfo, Slice, Stacked
from partitioner.runtime.scheduling.alignment import Place, align
from tests.bundles import spec


def plan(rows: int, **changed: str) -> Plan:
    """A loop that reads a carried value, a table, something of the request and a constant."""
    values = {
        "x": f"float32[{rows}, 3]",
        "x.inner": f"float32[{rows}, 3]",
        "x.next": f"float32[{rows}, 3]",
        "x.last": f"float32[{rows}, 3]",
        "table": f"float32[4, {rows}, 1]",
        "row": f"float32[{rows}, 1]",
        # Both halves of a guidance batch.
        "keys": f"float32[5, {2 * rows}]",
        "bias": "float32[3]",
        **changed,
    }
    return Plan(
        values={name: spec(text) for name, text in values.items()},
        inputs={"x": "x", "keys": "keys"},
        constants=("table", "bias"),
        draws=(),
        steps=(loop(),),
        outputs={"x": "x.last"},
        segments={"body": SegmentInfo("body", "onnx", (), ())},
    )


def loop(**changed: Any) -> Loop:
    call = Call("body", ("x.inner", "row", "keys", "bias"), ("x.next",))
    whole = Loop(
        "loop",
        4,
        (Carry("x", "x.inner", "x.next", "x.last"),),
        (Slice("table", "row"),),
        (),
        (call,),
    )
    return replace(whole, **changed)


def test_rows_are_found_by_comparison() -> None:
    found = align(plan(1), plan(3), 3)
    assert (Place("x.inner", "x.inner", 0),) == found.carries
    assert ("x.next",) == found.nexts
    assert (Place("row", "row", 0, "table"),) == found.slices
    assert (Place("keys", "keys", 1),) == found.invariants
    assert ("bias",) == found.constants


def test_the_bucket_of_one_request_is_aligned_with_itself() -> None:
    found = align(plan(1), plan(1), 1)
    assert (["keys"], ["row"]) == (
        [place.value for place in found.invariants],
        [place.value for place in found.slices],
    )


@pytest.mark.parametrize(
    ("many", "why"),
    [
        (plan(3, table="float32[4, 1]", row="float32[1, 1]"), "'row' has no row for each request"),
        (plan(3, keys="float32[5, 2]"), "'keys' has no row for each request"),
        (plan(3, keys="float32[7, 6]"), "is float32\\[5, 2\\] for one request"),
        (plan(3, keys="float32[?, 6]"), "is only known when it has run"),
        (replace(plan(3), steps=()), "0 loops, not one"),
        (replace(plan(3), steps=(loop(body=(loop(),)),)), "another one inside"),
        (replace(plan(3), steps=(loop(stacked=(Stacked("x.next", "all"),)),)), "collects values"),
        (replace(plan(3), steps=(loop(body=()),)), "makes 0 calls, for one request 1"),
        (replace(plan(3), steps=(loop(slices=()),)), "does not change from step to step"),
        (
            replace(plan(3), steps=(loop(carries=(Carry("x", "x.inner", "row", "x.last"),)),)),
            "handed on as it was given",
        ),
    ],
)
def test_what_cannot_be_shared_is_refused(many: Plan, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        align(plan(1), many, 3)
    assert "--step-batching" in str(caught.value)
