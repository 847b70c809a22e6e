"""One pipeline over several buckets, made by hand."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.manifest import Batch
from partitioner.backends.execution import DeviceOptions
from partitioner.errors import InputError, UsageError
from partitioner.hostops import host_op
from partitioner.plan import Call, Draw, DrawGroup
from partitioner.runtime.admitting import need_of
from partitioner.runtime.batches import BatchedPipeline
from partitioner.runtime.bundles import load_bucket
from partitioner.runtime.pipeline import Pipeline
from partitioner.specs import InputSpec, Noise
from tests.bundles import Maker, node, spec
from tests.loops import buckets_of

Array = np.ndarray[Any, Any]
WEIGHT = np.random.default_rng(0).standard_normal((3, 3)).astype(np.float32)


@host_op(name="tests.positive", outputs={"kept": ("float32", (None,))})
def positive(rows: Array, *, row: int) -> Array:
    return rows[row][rows[row] > 0]


def make_bucket(path: Path, rows: int) -> Path:
    """y = (x @ w + noise) * scale, and what is positive in each row of it."""
    shape = f"float32[{rows}, 3]"
    maker = Maker(path)
    maker.onnx(
        "mix",
        {"x": shape, "start": shape, "noise": shape, "scale": "float32[]"},
        {"y": shape},
        [
            node("MatMul", ["x", "w"], ["a"]),
            node("Add", ["a", "noise"], ["b"]),
            node("Add", ["b", "start"], ["c"]),
            node("Mul", ["c", "scale"], ["y"]),
        ],
        weights={"w": WEIGHT},
    )
    for row in range(rows):
        maker.host(f"keep{row}", positive.name, {"y": shape}, {"kept": "float32[?]"}, row=row)
    maker.value(noise=shape)
    outputs = {"y": "y"} | {f"kept.{row}": f"kept{row}" for row in range(rows)}
    return maker.write(
        [
            InputSpec("x", spec(shape)),
            InputSpec("start", spec(shape), Noise()),
            InputSpec("scale", spec("float32[]")),
        ],
        [
            Call("mix", ("x", "start", "noise", "scale"), ("y",)),
            *(Call(f"keep{row}", ("y",), (f"kept{row}",)) for row in range(rows)),
        ],
        outputs,
        [DrawGroup(1, (Draw("noise", "normal", (0.0, 1.0)),))],
        Batch(rows, ("x", "start"), ("y",), ("kept",)),
    )


@pytest.fixture(scope="module")
def loaders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Callable[[], Pipeline]]:
    folder = tmp_path_factory.mktemp("buckets")
    paths = {rows: make_bucket(folder / str(rows), rows) for rows in (4, 1, 2)}
    device = DeviceOptions(host_ops=(positive,))
    return {r: partial(load_bucket, Bundle.open(p), device) for r, p in paths.items()}


@pytest.fixture(scope="module")
def pipe(loaders: dict[int, Callable[[], Pipeline]]) -> BatchedPipeline:
    return BatchedPipeline(buckets_of(loaders))


def xs(rows: int) -> Array:
    return np.random.default_rng(rows).standard_normal((rows, 3)).astype(np.float32)


def test_the_batch_is_a_dimension_of_its_inputs_and_outputs(pipe: BatchedPipeline) -> None:
    assert (1, 2, 4) == pipe.batch_sizes
    assert spec("float32[batch, 3]") == pipe.inputs["x"]
    assert spec("float32[]") == pipe.inputs["scale"]
    assert {"y": spec("float32[batch, 3]"), "kept": spec("float32[?]")} == pipe.outputs


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 11), first=st.integers(0, 99))
def test_every_row_is_what_it_is_alone(pipe: BatchedPipeline, rows: int, first: int) -> None:
    x, seeds = xs(rows), list(range(first, first + rows))
    whole = pipe(x=x, scale=2.0, seed=seeds)
    for row in range(rows):
        alone = pipe(x=x[row : row + 1], scale=2.0, seed=seeds[row])
        np.testing.assert_allclose(alone["y"], whole["y"][row : row + 1], rtol=1e-6)
        np.testing.assert_allclose(alone["kept"], whole["kept"][row], rtol=1e-6)
    assert (rows, rows) == (len(whole["y"]), len(whole["kept"]))


def test_weights_that_buckets_map_are_counted_once(tmp_path: Path) -> None:
    device = DeviceOptions(host_ops=(positive,), memory="low")
    bundles = {rows: Bundle.open(make_bucket(tmp_path / str(rows), rows)) for rows in (1, 2)}
    loaders = {rows: partial(load_bucket, one, device) for rows, one in bundles.items()}
    with BatchedPipeline(buckets_of(loaders), at_once=True) as pipe:
        memory, segments = pipe.stats().memory, pipe.stats().segments
        assert (WEIGHT.nbytes, {}) == (memory.mapped, memory.packed)
        assert 2 * WEIGHT.nbytes == sum(segment.mapped for segment in segments)
    first, second = (need_of(one, device) for one in bundles.values())
    assert WEIGHT.nbytes == (first + second).whole(0)


def test_one_seed_gives_equal_rows_equal_results(pipe: BatchedPipeline) -> None:
    out = pipe(x=np.ones((3, 3)), scale=1.0, seed=7)
    np.testing.assert_array_equal(out["y"][:1].repeat(3, 0), out["y"])
    fresh = pipe(x=np.ones((3, 3)), scale=1.0)
    assert len(np.unique(fresh["y"][:, 0])) == 3


def test_given_noise_has_a_row_for_each_request(pipe: BatchedPipeline) -> None:
    x, start = xs(3), xs(3) * 5
    whole = pipe(x=x, start=start, scale=1.0, seed=[1, 2, 3])
    alone = pipe(x=x[2:], start=start[2:], scale=1.0, seed=3)
    np.testing.assert_allclose(alone["y"], whole["y"][2:], rtol=1e-6)


def test_values_of_noise_are_for_a_full_bucket(pipe: BatchedPipeline) -> None:
    noise = {"noise": np.zeros((2, 3), np.float32)}
    out = pipe(x=xs(2), start=np.zeros((2, 3)), scale=1.0, noise=noise)
    np.testing.assert_allclose(xs(2) @ WEIGHT, out["y"], rtol=1e-5)
    with pytest.raises(InputError, match="do not fill one bucket"):
        pipe(x=xs(3), scale=1.0, noise=noise)


def test_missing_and_unknown_inputs_are_named(pipe: BatchedPipeline) -> None:
    with pytest.raises(InputError, match="input missing: scale"):
        pipe(x=xs(2))
    with pytest.raises(InputError, match="no input 'xx'"):
        pipe(xx=xs(2), x=xs(2), scale=1.0)


def test_buckets_are_loaded_when_they_are_needed(
    loaders: dict[int, Callable[[], Pipeline]],
) -> None:
    made: list[int] = []

    def loading(rows: int) -> Pipeline:
        made.append(rows)
        return loaders[rows]()

    own = BatchedPipeline(buckets_of({rows: partial(loading, rows) for rows in loaders}))
    assert made == [1]
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(own, x=xs(3), scale=1.0, seed=5) for _ in range(8)]
    expected = own(x=xs(3), scale=1.0, seed=5)["y"]
    for call in calls:
        np.testing.assert_array_equal(expected, call.result()["y"])
    assert made == [1, 4]
    own.close()
    own.close()
    with pytest.raises(UsageError, match="is closed"):
        own(x=xs(1), scale=1.0)
