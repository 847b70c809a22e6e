"""What a manifest says of rows must be so."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from partitioner.artifacts.manifest import Batch, Manifest
from partitioner.errors import BundleError
from partitioner.plan import Call, Draw, DrawGroup, Plan, SegmentInfo
from partitioner.specs import InputSpec, Noise, TensorSpec
from tests.artifacts.samples import manifest

ROWS = TensorSpec("float32", (2, 3))
STEPS = TensorSpec("float32", (5, 2, 3))
MESH = TensorSpec("float32", (None, 3))
BATCH = Batch(2, ("x", "start"), ("y",), ("mesh",))


def bucket(**changes: Any) -> Manifest:
    """Of two rows; stacked and listed outputs, draws with and without a loop."""
    outputs = {"y": ROWS, "mesh.0": MESH, "mesh.1": MESH}
    plan = Plan(
        values={"x": ROWS, "start": ROWS, "once": ROWS, "steps": STEPS, **outputs},
        inputs={"x": "x", "start": "start"},
        constants=(),
        draws=(
            DrawGroup(1, (Draw("once", "normal", (0.0, 1.0)),)),
            DrawGroup(5, (Draw("steps", "normal", (0.0, 1.0), row=True),)),
        ),
        steps=(Call("all", ("x", "start", "once", "steps"), tuple(outputs)),),
        outputs={name: name for name in outputs},
        segments={},
    )
    names = ("x", "start", "once", "steps")
    info = SegmentInfo(
        "all", "host", tuple((n, plan.values[n]) for n in names), tuple(outputs.items())
    )
    plan = dataclasses.replace(plan, segments={"all": info})
    whole = manifest().replace(
        inputs=(InputSpec("x", ROWS), InputSpec("start", ROWS, Noise())),
        outputs=outputs,
        plan=plan,
        artifacts={"all": dataclasses.replace(manifest().artifacts["march"])},
        constants={},
        parity=None,
        variants=(),
        memory=None,
        batch=BATCH,
    )
    return whole.replace(**changes)


def test_a_bucket_is_read_as_it_was_written() -> None:
    assert bucket() == Manifest.from_json(bucket().to_json())
    assert {"target": "cpu", "batch": "2"} == bucket().labels


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": 0}, "0 rows"),
        ({"rows": 3}, "said to have 3 rows"),
        ({"inputs": ("x",)}, "noise inputs are not said"),
        ({"inputs": ("x", "x", "start")}, "twice"),
        ({"inputs": ("x", "start", "z")}, "'z' is said to have rows, but is no input"),
        ({"stacked": ("z",)}, "'z' is said to have rows, but is no output"),
        ({"stacked": ("mesh.0",)}, "output 'mesh.0' is said to have 2 rows"),
        ({"listed": ("y",)}, "the rows of 'y' are not all outputs"),
    ],
)
def test_what_is_not_so_is_refused(changes: dict[str, Any], message: str) -> None:
    wrong = bucket(batch=dataclasses.replace(BATCH, **changes))
    with pytest.raises(BundleError, match=message):
        Manifest.from_json(wrong.to_json())


@pytest.mark.parametrize("name", ["once", "steps"])
def test_draws_have_rows(name: str) -> None:
    made = bucket()
    plan = made.plan
    spec = TensorSpec("float32", (5, 1, 3) if name == "steps" else (1, 3))
    info = plan.segments["all"]
    inputs = tuple((n, spec if n == name else own) for n, own in info.inputs)
    segments = {"all": dataclasses.replace(info, inputs=inputs)}
    wrong = dataclasses.replace(plan, values={**plan.values, name: spec}, segments=segments)
    with pytest.raises(BundleError, match=f"the draw '{name}' is said to have 2 rows"):
        Manifest.from_json(made.replace(plan=wrong).to_json())
