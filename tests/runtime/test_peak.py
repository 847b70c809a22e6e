"""The peak that a bundle records is what a run takes, as seen by tracemalloc.

NumPy tells tracemalloc of its arrays. What ONNX Runtime takes for itself is not seen, and not
planned.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest

import partitioner
from partitioner.buffers import measure
from partitioner.hostops import HostOp, host_op
from partitioner.modelfile import load_model
from partitioner.ops import marching_cubes
from partitioner.plan import Call, Carry, Loop, Slice, Stacked
from partitioner.runtime import Pipeline, load
from partitioner.runtime.runner import Run
from partitioner.specs import InputSpec
from tests.bundles import Maker, node, spec

Array = np.ndarray[Any, Any]

#: What a run takes beside arrays: its dictionaries, bound calls, events.
SMALL = 40_000

LARGE, SMALLER = "float32[1024, 512]", "float32[256, 512]"


@host_op(name="tests.half", outputs={"half": ("float32", (1024, 512))})
def half(x: Array) -> Array:
    return x * np.float32(0.5)


def borders(path: Path) -> Path:
    """Large values handed from segment to segment, one through a host op."""
    maker = Maker(path)
    maker.onnx("a", {"x": SMALLER}, {"y": LARGE}, [node("Concat", ["x"] * 4, ["y"], axis=0)])
    maker.onnx("b", {"x": LARGE}, {"y": LARGE}, [node("Neg", ["x"], ["y"])])
    maker.host("c", "tests.half", {"x": LARGE}, {"half": LARGE})
    maker.onnx("d", {"x": LARGE, "z": LARGE}, {"y": LARGE}, [node("Add", ["x", "z"], ["y"])])
    steps = [
        Call("a", ("x",), ("v1",)),
        Call("b", ("v1",), ("v2",)),
        Call("b", ("v2",), ("v3",)),
        Call("c", ("v3",), ("v4",)),
        Call("d", ("v3", "v4"), ("v5",)),
        Call("b", ("v5",), ("y",)),
    ]
    return maker.write([InputSpec("x", spec(SMALLER))], steps, {"y": "y"})


def stacking(path: Path) -> Path:
    """A loop that collects what it carries, and one that looks two trips back."""
    maker = Maker(path)
    step = [node("Mul", ["x", "t"], ["m"]), node("Add", ["m", "older"], ["y"])]
    maker.onnx("step", {"x": SMALLER, "older": SMALLER, "t": "float32[1]"}, {"y": SMALLER}, step)
    step = [node("Einsum", ["all"], ["y"], equation="tij->ij")]
    maker.onnx("mean", {"all": "float32[6, 256, 512]"}, {"y": SMALLER}, step)
    maker.constant("table", np.linspace(0, 1, 6, dtype=np.float32)[:, None])
    collecting = Loop(
        "collecting",
        6,
        (Carry("x", "c.inner", "c.next", None),),
        (Slice("table", "c.t"),),
        (Stacked("c.next", "all"),),
        (Call("step", ("c.inner", "x", "c.t"), ("c.next",)),),
    )
    looking = Loop(
        "looking",
        6,
        (Carry("mean", "l.inner", "l.next", "y"), Carry("x", "l.older", "l.inner", None)),
        (Slice("table", "l.t"),),
        (Stacked("l.older", "path"),),
        (Call("step", ("l.inner", "l.older", "l.t"), ("l.next",)),),
    )
    steps = [collecting, Call("mean", ("all",), ("mean",)), looking]
    return maker.write([InputSpec("x", spec(SMALLER))], steps, {"y": "y", "path": "path"})


def peak_of(run: Callable[[], object]) -> int:
    """Most bytes at once, beyond those before."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    try:
        run()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module", params=[borders, stacking])
def pipe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return load(request.param(tmp_path_factory.mktemp("peak") / "b"), host_ops=[half])


def request_of(pipe: Pipeline) -> Mapping[str, Array]:
    return {name: np.ones(s.shape, s.dtype) for name, s in pipe.inputs.items()}  # pyright: ignore


def test_the_first_request_takes_what_was_planned(pipe: Pipeline) -> None:
    given = request_of(pipe)
    expected = measure(pipe.manifest.plan).peak
    assert expected == pytest.approx(peak_of(lambda: pipe(given)), rel=0.1)
    assert expected > 20 * SMALL


def test_later_requests_take_nothing_more(pipe: Pipeline) -> None:
    given = request_of(pipe)
    pipe(given)
    memory = measure(pipe.manifest.plan)

    def many() -> None:
        for _ in range(20):
            pipe(given)

    # The arena is there; the caller's arrays and those of host ops are made anew, and let go.
    assert peak_of(many) < memory.outputs + memory.loose + SMALL


def test_requests_at_once_have_an_arena_each_and_keep_it(pipe: Pipeline) -> None:
    given, count = request_of(pipe), 3
    barrier = Barrier(count)
    expected = pipe(given)

    def ask(_: int) -> dict[str, Array]:
        barrier.wait()
        return pipe(given)

    with ThreadPoolExecutor(count) as threads:
        for _ in range(4):
            for actual in threads.map(ask, range(count)):
                for name, array in expected.items():
                    np.testing.assert_array_equal(array, actual[name])
    assert 1 <= len(pipe._schedules.arenas._free) <= count


@pytest.mark.slow
def test_the_example_takes_what_its_bundle_says(tmp_path: Path) -> None:
    """Up to its host op, whose own arrays are larger than all else at this size."""
    model = load_model(str(Path(__file__).parents[2] / "examples" / "bernini" / "model.py"))
    partitioner.build(
        model.pipeline,
        model.example_inputs,
        output=tmp_path / "b",
        inputs=model.inputs,
        stages=model.stages,
        options=model.options,
        parity=False,
    )
    seen: list[int] = []

    def march(*args: Any, **options: Any) -> Any:
        seen.append(tracemalloc.get_traced_memory()[1])
        return marching_cubes.function(*args, **options)

    noting = HostOp(march, name=marching_cubes.name, outputs=marching_cubes.outputs, requires=())
    with load(tmp_path / "b", host_ops=[noting]) as pipe:
        chosen, given = pipe._schedules.choose(request_of(pipe))
        values = pipe._start(chosen, given, 0, {})
        peak_of(lambda: Run(pipe._executables, chosen.scheduled, values).run())
        memory = pipe.manifest.memory
        assert memory is not None
        assert memory.peak == pytest.approx(seen[0], rel=0.1)
