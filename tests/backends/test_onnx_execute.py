"""ONNX segments: loading, binding, refusing."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from partitioner.backends.execution import ArtifactFiles, DeviceOptions
from partitioner.backends.onnx import pool
from partitioner.backends.onnx.execute import OnnxExecutable, OnnxExecutor
from partitioner.errors import BackendError, BundleError, IncompatibleBundleError
from partitioner.plan import SegmentInfo
from tests.bundles import ONNX_TYPES, external, model, node, specs

Array = np.ndarray[Any, Any]
WEIGHT = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
INPUTS = {"x": "float32[2, 4]"}
OUTPUTS = {"y": "float32[2, 4]"}
BLOB, GRAPH = "a" * 64, "b" * 64


def files(
    folder: Path,
    data: bytes | None = None,
    inputs: dict[str, str] = INPUTS,
    outputs: dict[str, str] = OUTPUTS,
    **options: Any,
) -> ArtifactFiles:
    """A folder of blobs without suffixes: the weights, and the graph itself."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    (blobs / BLOB).write_bytes(b"\0" * 64 + WEIGHT.tobytes())
    if data is None:
        multiply = [node("MatMul", ["x", "w"], ["y"])]
        data = model(inputs, outputs, multiply, [external("w", WEIGHT, BLOB, 64)])
    (blobs / GRAPH).write_bytes(data)
    info = SegmentInfo(
        "block", "onnx", specs(inputs), specs(outputs), sources=("net.py:3 in forward",)
    )
    return ArtifactFiles(blobs / GRAPH, blobs, (blobs / BLOB,), options, info)


def load(artifact: ArtifactFiles, **device: Any) -> OnnxExecutable:
    return OnnxExecutor().load(artifact, DeviceOptions(**device))


X = np.random.default_rng(1).standard_normal((2, 4)).astype(np.float32)


@pytest.mark.parametrize("memory", ["fast", "low"])
@pytest.mark.parametrize("optimization", ["none", "basic", "extended", "all"])
def test_weights_come_from_a_blob(tmp_path: Path, memory: Any, optimization: str) -> None:
    block = load(files(tmp_path, optimization=optimization), memory=memory)

    np.testing.assert_allclose(X @ WEIGHT, block(X)[0], rtol=1e-5)
    assert specs(INPUTS) == block.inputs
    assert specs(OUTPUTS) == block.outputs


def test_arrays_in_any_order_of_memory(tmp_path: Path) -> None:
    block = load(files(tmp_path))

    np.testing.assert_array_equal(block(X)[0], block(np.asfortranarray(X))[0])
    read_only = X.copy()
    read_only.flags.writeable = False
    np.testing.assert_array_equal(block(X)[0], block(read_only)[0])


@pytest.mark.parametrize("dtype", ONNX_TYPES)
@pytest.mark.parametrize("shape", ["[]", "[3]", "[0, 2]"])
def test_every_dtype_and_odd_shapes(tmp_path: Path, dtype: str, shape: str) -> None:
    inputs, outputs = {"a": f"{dtype}{shape}"}, {"b": f"{dtype}{shape}"}
    data = model(inputs, outputs, [node("Identity", ["a"], ["b"])])
    block = load(files(tmp_path, data, inputs, outputs))
    dims = block.inputs[0][1].shape
    array = np.ones(tuple(int(str(dim)) for dim in dims), dtype)
    call = block.bind()
    call.set_input(0, array)
    buffer = np.zeros_like(array)
    call.set_output(0, buffer)

    assert buffer is call.run()[0]
    np.testing.assert_array_equal(array, buffer)
    np.testing.assert_array_equal(array, block(array)[0])


def test_a_bound_call_reads_and_writes_in_place(tmp_path: Path) -> None:
    call = load(files(tmp_path)).bind()
    given, one, two = X.copy(), np.zeros_like(X), np.zeros_like(X)
    call.set_input(0, given)
    call.set_output(0, one)
    call.run()
    np.testing.assert_allclose(X @ WEIGHT, one, rtol=1e-5)
    # What the array holds when it is run counts.
    given *= 2
    call.set_output(0, two)
    call.run()
    np.testing.assert_allclose(X @ WEIGHT, one, rtol=1e-5)
    np.testing.assert_allclose(2 * X @ WEIGHT, two, rtol=1e-5)
    # Back to arrays of its own.
    call.set_output(0, None)
    (fresh,) = call.run()
    np.testing.assert_array_equal(two, fresh)
    assert not np.shares_memory(two, fresh)


def test_a_size_that_only_the_data_decide(tmp_path: Path) -> None:
    inputs, outputs = {"x": "float32[4]"}, {"at": "int64[1, ?]", "y": "float32[4]"}
    nodes = [node("NonZero", ["x"], ["at"]), node("Neg", ["x"], ["y"])]
    block = load(files(tmp_path, model(inputs, outputs, nodes), inputs, outputs))
    call = block.bind()
    call.set_input(0, np.array([1, 0, 2, 0], np.float32))
    negated = np.zeros(4, np.float32)
    call.set_output(1, negated)
    at, y = call.run()
    kept = at.copy()

    np.testing.assert_array_equal([[0, 2]], at)
    assert negated is y
    call.set_input(0, np.ones(4, np.float32))
    np.testing.assert_array_equal([[0, 1, 2, 3]], call.run()[0])
    np.testing.assert_array_equal(kept, at)


def test_arrays_that_do_not_fit(tmp_path: Path) -> None:
    block = load(files(tmp_path))
    with pytest.raises(BackendError, match="2 arrays for 1 inputs"):
        block(X, X)
    with pytest.raises(BackendError) as caught:
        block(np.zeros((3, 4), np.float32))
    assert "segment 'block' failed in ONNX Runtime" in caught.value.what
    assert "segment 'block' (net.py:3 in forward)" == caught.value.where
    assert caught.value.advice
    for wrong in (np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float64)):
        call = block.bind()
        call.set_input(0, X)
        call.set_output(0, wrong)
        with pytest.raises(BackendError):
            call.run()


def test_closing(tmp_path: Path) -> None:
    block = load(files(tmp_path))
    block.close()
    with pytest.raises(BackendError, match="closed"):
        block(X)


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"custom_op_library": "evil.so"},
        {"optimization": "most"},
        {"optimization": ["none"]},
        {"config": {"session.optimized_model_filepath": "1"}},
        {"config": {"session.set_denormal_as_zero": "yes"}},
        {"config": ["session.set_denormal_as_zero"]},
        {"optimized_model_filepath": "/tmp/x"},
        {"enable_profiling": True},
    ],
)
def test_options_outside_of_the_list(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(IncompatibleBundleError, match="does not allow"):
        load(files(tmp_path, **options))


def test_options_inside_of_the_list(tmp_path: Path) -> None:
    block = load(files(tmp_path, config={"session.set_denormal_as_zero": "1"}))

    np.testing.assert_allclose(X @ WEIGHT, block(X)[0], rtol=1e-5)


@pytest.mark.parametrize("location", ["../../secret", "/etc/passwd", "c" * 64])
def test_a_graph_that_reads_elsewhere(tmp_path: Path, location: str) -> None:
    artifact = files(tmp_path)
    (artifact.blobs_dir / ("c" * 64)).write_bytes(b"\0" * 128)
    nodes = [node("MatMul", ["x", "w"], ["y"])]
    data = model(INPUTS, OUTPUTS, nodes, [external("w", WEIGHT, location, 0)])
    with pytest.raises(BundleError, match="not one of the artifact's blobs"):
        load(files(tmp_path, data))


def test_no_graph_or_not_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot be trusted"):
        load(files(tmp_path, b"not a protobuf"))
    with pytest.raises(BackendError, match="was refused by ONNX Runtime"):
        load(files(tmp_path, b""))
    artifact = files(tmp_path)
    bare = ArtifactFiles(None, artifact.blobs_dir, (), {}, artifact.info)
    with pytest.raises(BundleError, match="without a graph"):
        load(bare)


def test_an_op_that_does_not_exist(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = model(INPUTS, OUTPUTS, [node("NoSuchOp", ["x"], ["y"])])
    with pytest.raises(BackendError, match=r"was refused by ONNX Runtime.*NoSuchOp"):
        load(files(tmp_path, data))
    # The exception says it all.
    assert ("", "") == capfd.readouterr()


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ({"z": "float32[2, 4]"}, OUTPUTS),
        ({"x": "float32[2, 4]", "z": "float32[1]"}, OUTPUTS),
        (INPUTS, {"z": "float32[2, 4]"}),
        ({"x": "float16[2, 4]"}, OUTPUTS),
        ({"x": "float32[3, 4]"}, OUTPUTS),
        (INPUTS, {"y": "float32[2, 4, 1]"}),
    ],
)
def test_tensors_that_are_not_the_segments(
    tmp_path: Path, inputs: dict[str, str], outputs: dict[str, str]
) -> None:
    nodes = [node("MatMul", ["x", "w"], ["y"])]
    data = model(INPUTS, OUTPUTS, nodes, [external("w", WEIGHT, BLOB, 64)])
    with pytest.raises(BundleError, match="the plan has"):
        load(files(tmp_path, data, inputs, outputs))


# --- threads ------------------------------------------------------------------------------------


def run_alone(code: str, **environment: str) -> str:
    """Run code in a process of its own, which has no pool yet."""
    result = subprocess.run(
        [sys.executable, "-W", "always", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    return result.stdout + result.stderr


#: Before it, every session has a pool of its own.
has_shared_pool = pytest.mark.skipif(
    not hasattr(onnxruntime, "set_global_thread_pool_sizes"), reason="onnxruntime is too old"
)

POOLS = """
    import onnxruntime as ort
    from partitioner.backends.onnx.pool import apply_pool

    def options(threads):
        made = ort.SessionOptions()
        print(apply_pool(ort, made, threads), made.use_per_session_threads)

    {before}
    options(2)
    options(None)
    options(3)
"""


@has_shared_pool
def test_the_first_load_sets_the_size_of_the_shared_pool() -> None:
    printed = run_alone(POOLS.format(before=""))

    assert ["2 False"] * 3 == [line for line in printed.splitlines() if line[0].isdigit()]
    assert "3 threads were asked for" in printed
    assert "has had 2 since" in printed


@has_shared_pool
def test_a_pool_that_other_code_has_made_is_used() -> None:
    printed = run_alone(POOLS.format(before="ort.set_global_thread_pool_sizes(4, 1)"))

    assert ["2 False"] * 3 == [line for line in printed.splitlines() if line[0].isdigit()]


@has_shared_pool
def test_a_pool_for_each_session_on_request() -> None:
    printed = run_alone(POOLS.format(before=""), **{pool.VARIABLE: "session"})

    assert ["2 True", f"{pool.usable_cpus()} True", "3 True"] == printed.splitlines()


@has_shared_pool
def test_threads_do_not_spin_long_where_another_backend_computes() -> None:
    """In pools of their own, unless the shared one is there, which rules them out."""
    script = """
        import onnxruntime as ort
        from partitioner.backends.onnx.pool import apply_pool

        for mixed in (True, False, True):
            made = ort.SessionOptions()
            threads = apply_pool(ort, made, 2, mixed)
            try:
                spin = made.get_session_config_entry("session.intra_op.spin_duration_us")
            except RuntimeError:
                spin = "unset"
            print(threads, made.use_per_session_threads, spin)
    """

    assert ["2 True 50", "2 False unset", "2 False unset"] == run_alone(script).splitlines()


@has_shared_pool
@pytest.mark.parametrize("wish", ["mixed", "session"])
def test_a_shared_pool_of_other_code_is_used_where_own_ones_are_refused(
    wish: str, tmp_path: Path
) -> None:
    """Only making a session tells that there is one, so the first try is for a pool of its own."""
    script = f"""
        import onnxruntime as ort
        from pathlib import Path
        from tests.backends.test_onnx_execute import WEIGHT, X, files, load

        ort.set_global_thread_pool_sizes(2, 1)
        artifact = files(Path({str(tmp_path)!r}))
        data, providers = artifact.graph.read_bytes(), ["CPUExecutionProvider"]
        try:
            ort.InferenceSession(data, providers=providers, enable_fallback=0)
        except RuntimeError as error:
            print("use_per_session_threads must be false" in str(error))
        block = load(artifact, mixed={wish == "mixed"})
        print(block._session.get_session_options().use_per_session_threads)
        print(abs(block(X)[0] - X @ WEIGHT).max() < 1e-4)
    """
    environment = {pool.VARIABLE: "session"} if wish == "session" else {}

    assert ["True", "False", "True"] == run_alone(script, **environment).splitlines()
