"""A plan is refused unless it can be run."""

from __future__ import annotations

import time
from typing import Any

import pytest

from partitioner.artifacts.manifest import Manifest
from partitioner.artifacts.validate_plan import validate_plan
from partitioner.errors import BundleError
from partitioner.plan import Call, Carry, Loop, Plan, SegmentInfo
from partitioner.specs import TensorSpec
from tests.artifacts.edits import DELETE, edited
from tests.artifacts.samples import manifest
from tests.artifacts.test_validate import refused

LOOP = "plan/steps/1"
INNER = "plan/steps/1/body/0"
SEGMENT = "plan/segments/1/1"
LATE = {"kind": "Call", "segment": "step", "inputs": ["y", "y"], "outputs": ["late"]}
STATE = {"dtype": "float32", "shape": [1, 4]}


def test_the_sample_is_valid() -> None:
    validate_plan(manifest().plan)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (("plan/values/a b", STATE), "malformed id 'a b'"),
        (("plan/values/a\x1b", STATE), "malformed id"),
        (("plan/values/" + "a" * 201, STATE), "malformed id"),
        (("plan/values/x/dtype", "object"), "unknown dtype 'object'"),
        (("plan/values/x/shape", [1, -4]), "a dimension of -4"),
        (("plan/values/x/shape", [2**31, 2**31]), "more than"),
        (("plan/values/x/shape", [0, 2**62]), "more than"),
        (("plan/values/x/shape", [1] * 17), "17 dimensions"),
        (("plan/values/x/shape", ["a b"]), "malformed id"),
        (("plan/values/code", DELETE), "'code', which has no type"),
        (("plan/inputs/image", "nothing"), "'nothing', which has no type"),
        (("plan/inputs/image", "latents"), "'latents', which is written already"),
        (("plan/constants/1", "table"), "'table', which is written already"),
        (("plan/constants/1", "image"), "'image', which is written already"),
        (("plan/outputs/0/1", "x"), "'x', which is not written before"),
        (("plan/outputs/0/1", "nothing"), "'nothing', which is not written before"),
        (("plan/steps", []), "not written before"),
    ],
)
def test_values(edit: tuple[str, Any], message: str) -> None:
    assert message in refused(edit)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (("plan/steps/0/segment", "outer"), "'outer', which it does not have"),
        (("plan/steps/0/inputs/0", "code"), "'code', which is not written before"),
        (("plan/steps/0/inputs/0", "vertices"), "'vertices', which is not written before"),
        (("plan/steps/0/inputs", ["image"]), "1 values for 2 tensors"),
        (("plan/steps/0/inputs", ["latents", "image"]), "tensor 'a' is float32[1, 3, 2, 5]"),
        (("plan/steps/0/outputs", []), "0 values for 1 tensors"),
        (("plan/steps/0/outputs", ["image"]), "'image', which is written already"),
        (("plan/steps/2/outputs", ["x"]), "'x', which is written already"),
        (("plan/steps/2/inputs", ["y.next"]), "'y.next', which is not written before"),
    ],
)
def test_calls(edit: tuple[str, Any], message: str) -> None:
    assert message in refused(edit)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ((f"{LOOP}/trips", 0), "makes 0 trips"),
        ((f"{LOOP}/trips", 10**6 + 1), "makes 1000001 trips"),
        ((f"{LOOP}/trips", 4), "'table' is float32[3, 2, 4], not 4 rows of float32[2, 4]"),
        ((f"{LOOP}/trips", 2), "'path' is float32[3, 1, 4], not float32[2, 1, 4]"),
        ((f"{INNER}/trips", 3), "'row' is float32[2, 4], not 3 rows of float32[4]"),
        ((f"{LOOP}/name", "a b"), "malformed id"),
        ((f"{LOOP}/carries/0/init", "y"), "'y', which is not written before"),
        ((f"{LOOP}/carries/0/init", "x.last"), "'x.last', which is not written before"),
        ((f"{LOOP}/carries/0/init", "fixed"), "whose type changes"),
        ((f"{LOOP}/carries/0/next", "y.next"), "'y.next', which is not written before"),
        ((f"{LOOP}/carries/0/next", "row"), "whose type changes"),
        ((f"{LOOP}/carries/0/inner", "code"), "'code', which is written already"),
        ((f"{LOOP}/carries/0/final", "y"), "'y', which is written already"),
        ((f"{LOOP}/carries/0/final", "y.last"), "'y.last', which is written already"),
        ((f"{LOOP}/carries/0/final", None), "'x.last', which is not written before"),
        ((f"{LOOP}/slices/0/source", "ids"), "'ids' is int64[3], not 3 rows of float32[2, 4]"),
        ((f"{LOOP}/slices/0/source", "path"), "'path', which is not written before"),
        ((f"{LOOP}/stacked/0/inner", "image"), "'path' is float32[3, 1, 4], not"),
        ((f"{LOOP}/stacked/0/result", "row"), "'row', which is written already"),
        ((f"{LOOP}/body", []), "not written before"),
        ((f"{LOOP}/body/0/body/0/inputs/0", "y.next"), "not written before"),
    ],
)
def test_loops(edit: tuple[str, Any], message: str) -> None:
    assert message in refused(edit)


def test_what_a_body_wrote_is_out_of_sight_after_its_loop() -> None:
    edits: list[tuple[str, Any]] = [
        ("plan/values/late", STATE),
        ("plan/steps", lambda steps: [*steps, LATE]),
    ]
    assert "read(s) 'y', which is not written before" in refused(*edits)


def test_a_body_reads_what_was_written_before_its_loop() -> None:
    Manifest.from_json(edited((f"{INNER}/body/0/inputs/0", "code")))
    assert "tensor 'a' is float32[1, 4]" in refused((f"{INNER}/body/0/inputs/0", "fixed"))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (("plan/draws/0/repeat", 0), "repeated 0 times"),
        (("plan/draws/0/repeat", 10**6 + 1), "repeated 1000001 times"),
        (("plan/draws/0/repeat", 4), "does not have 4 rows"),
        (("plan/draws/0/draws/0/row", False), "not row by row"),
        (("plan/draws/0/draws/0/value", "table"), "'table', which is written already"),
        (("plan/draws/1/draws/0/value", "nothing"), "'nothing', which has no type"),
        (("plan/draws/1/draws/0/stream", -1), "of stream -1"),
        (("plan/values/fixed/shape", ["n"]), "no fixed shape"),
        (("plan/values/fixed/shape", [None]), "no fixed shape"),
    ],
)
def test_draws(edit: tuple[str, Any], message: str) -> None:
    assert message in refused(edit)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (("plan/segments/1/0", "other"), "is called 'step' in its own entry"),
        (("plan/segments/1/0", "encode"), "a key occurs twice"),
        ((f"{SEGMENT}/inputs/1/0", "a"), "two tensors 'a'"),
        ((f"{SEGMENT}/outputs/0/0", "a/b"), "malformed name"),
        ((f"{SEGMENT}/outputs/0/1/dtype", "void"), "unknown dtype"),
        ((f"{SEGMENT}/nodes", -1), "has -1 nodes"),
        ((f"{SEGMENT}/sources", ["\x1b[2J"]), "printable"),
        ((f"{SEGMENT}/stages", ["a\nb"]), "printable"),
    ],
)
def test_segments(edit: tuple[str, Any], message: str) -> None:
    assert message in refused(edit)


def test_time_grows_with_the_plan_only() -> None:
    """20,000 loops over 20,000 values; copying the scope for each would take minutes."""
    state = TensorSpec("float32", (1,))
    count = 20_000
    values = {f"{kind}{i}": state for kind in ("x", "i", "n") for i in range(count + 1)}
    segment = SegmentInfo("s", "onnx", (("a", state),), (("b", state),))
    steps = tuple(
        Loop(
            name=f"l{i}",
            trips=2,
            carries=(Carry(f"x{i}", f"i{i}", f"n{i}", f"x{i + 1}"),),
            slices=(),
            stacked=(),
            body=(Call("s", (f"i{i}",), (f"n{i}",)),),
        )
        for i in range(count)
    )
    plan = Plan(values, {"x": "x0"}, (), (), steps, {"y": f"x{count}"}, {"s": segment})
    start = time.monotonic()
    validate_plan(plan)
    assert 5 > time.monotonic() - start


def test_deep_plans_raise_nothing_else() -> None:
    step: Loop | Call = Call("s", ("x",), ("y",))
    for _ in range(60):
        step = Loop("l", 1, (), (), (), (step,))
    state = TensorSpec("float32", ())
    segment = SegmentInfo("s", "onnx", (("a", state),), (("b", state),))
    plan = Plan({"x": state, "y": state}, {"x": "x"}, (), (), (step,), {"y": "y"}, {"s": segment})
    with pytest.raises(BundleError, match="'y', which is not written before"):
        validate_plan(plan)
