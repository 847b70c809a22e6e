"""Callbacks see what a loop carries, for as long as they run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from partitioner.errors import UsageError
from partitioner.plan import Call, Carry, Loop
from partitioner.runtime import Pipeline, StepEvent, load
from partitioner.specs import InputSpec
from tests.bundles import Maker, node, spec

Array = np.ndarray[Any, Any]
SHAPE = "float32[3]"


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Two values are carried: one becomes an output, the other began as an input."""
    maker = Maker(tmp_path_factory.mktemp("previews") / "b")
    maker.onnx(
        "step",
        {"a": SHAPE, "b": SHAPE},
        {"x": SHAPE, "y": SHAPE},
        [node("Add", ["a", "b"], ["x"]), node("Neg", ["b"], ["y"])],
    )
    maker.constant("ones", np.ones(3, np.float32))
    loop = Loop(
        "steps",
        4,
        (Carry("ones", "a", "x", "total"), Carry("given", "b", "y", None)),
        (),
        (),
        (Call("step", ("a", "b"), ("x", "y")),),
    )
    return load(maker.write([InputSpec("given", spec(SHAPE))], [loop], {"sum": "total"}))


GIVEN = np.array([1.0, 2.0, 3.0], np.float32)


def expected_steps() -> list[dict[str, Array]]:
    total, given, steps = np.ones(3, np.float32), GIVEN, list[dict[str, Array]]()
    for _ in range(4):
        total, given = total + given, -given
        steps.append({"sum": total, "given": given})
    return steps


def test_copies_are_the_values_after_each_step(pipe: Pipeline) -> None:
    seen: list[dict[str, Array]] = []
    outputs = pipe(given=GIVEN, callback=lambda event: seen.append(event.carried()))
    for expected, actual in zip(expected_steps(), seen, strict=True):
        assert list(expected) == list(actual)
        for name, array in expected.items():
            np.testing.assert_array_equal(array, actual[name])
    np.testing.assert_array_equal(seen[-1]["sum"], outputs["sum"])


def test_what_is_done_to_a_copy_does_not_reach_the_run(pipe: Pipeline) -> None:
    def spoil(event: StepEvent) -> None:
        for array in event.carried().values():
            array[:] = np.nan

    expected = pipe(given=GIVEN)["sum"]
    np.testing.assert_array_equal(expected, pipe(given=GIVEN, callback=spoil)["sum"])


def test_views_are_read_only_and_the_same_memory(pipe: Pipeline) -> None:
    def look(event: StepEvent) -> None:
        views, again = event.carried(copy=False), event.carried(copy=False)
        np.testing.assert_array_equal(expected_steps()[event.step]["sum"], views["sum"])
        assert np.shares_memory(views["sum"], again["sum"])
        with pytest.raises(ValueError, match="read-only"):
            views["sum"][:] = 0

    pipe(given=GIVEN, callback=look)


def test_nothing_can_be_seen_after_the_callback(pipe: Pipeline) -> None:
    events: list[StepEvent] = []
    pipe(given=GIVEN, callback=events.append)
    with pytest.raises(UsageError, match="only while its callback runs"):
        events[0].carried()


def test_submitted_requests_have_previews_too(pipe: Pipeline) -> None:
    seen: list[dict[str, Array]] = []
    pipe.submit(given=GIVEN, callback=lambda event: seen.append(event.carried())).result(60)
    np.testing.assert_array_equal(expected_steps()[2]["sum"], seen[2]["sum"])
