"""Host ops as segments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from partitioner.backends.execution import ArtifactFiles, DeviceOptions
from partitioner.backends.host.execute import HostExecutable, HostExecutor
from partitioner.errors import BackendError, BundleError, InputError, MissingDependencyError
from partitioner.hostops import host_op
from partitioner.plan import SegmentInfo
from tests.bundles import specs

Array = np.ndarray[Any, Any]


@host_op(name="tests.above", outputs={"values": ("float32", (None,)), "where": ("int64", (None,))})
def above(x: Array, *, level: float = 0.0) -> tuple[Array, Array]:
    return x[x > level], np.flatnonzero(x > level)


@host_op(name="tests.same", outputs={"y": ("float32", (3,))})
def same(x: Array) -> Array:
    return x


@host_op(name="tests.scribble", outputs={"y": ("float32", (3,))})
def scribble(x: Array) -> Array:
    x[0] = 1
    return x


@host_op(name="tests.wrong", outputs={"y": ("float32", (3,))})
def wrong(x: Array) -> Array:
    return x.astype(np.float64)


@host_op(name="tests.needy", outputs={"y": ("float32", (3,))}, requires=("no-such-library",))
def needy(x: Array) -> Array:
    import no_such_library  # pyright: ignore[reportMissingImports]

    return no_such_library.solve(x)


OPS = (above, same, scribble, wrong, needy)
Y = {"y": "float32[3]"}


def load(op: str, outputs: dict[str, str] = Y, **keywords: Any) -> HostExecutable:
    info = SegmentInfo(
        "op", "host", specs({"x": "float32[3]"}), specs(outputs), sources=("net.py:9 in forward",)
    )
    files = ArtifactFiles(None, Path(), (), {"op": op, "options": keywords}, info)
    return HostExecutor().load(files, DeviceOptions(host_ops=OPS))


X = np.array([-1, 0, 2], np.float32)


def test_options_and_several_outputs() -> None:
    op = load("tests.above", {"v": "float32[?]", "w": "int64[?]"}, level=-0.5)
    values, where = op(X)

    np.testing.assert_array_equal([0, 2], values)
    np.testing.assert_array_equal([1, 2], where)


def test_a_bound_call() -> None:
    call = load("tests.same").bind()
    call.set_input(0, X)
    (fresh,) = call.run()
    buffer = np.zeros(3, np.float32)
    call.set_output(0, buffer)

    assert buffer is call.run()[0]
    np.testing.assert_array_equal(X, buffer)
    np.testing.assert_array_equal(X, fresh)
    call.set_output(0, np.zeros(4, np.float32))
    with pytest.raises(BackendError, match=r"gave float32\[3\] where float32\[4\]"):
        call.run()


def test_a_result_is_never_a_view_of_an_input() -> None:
    assert not np.shares_memory(X, load("tests.same")(X)[0])


def test_an_op_cannot_write_to_its_inputs() -> None:
    with pytest.raises(BackendError) as caught:
        load("tests.scribble")(X)
    assert "host op 'tests.scribble' failed: ValueError" in caught.value.what
    assert "segment 'op' (net.py:9 in forward)" == caught.value.where
    assert isinstance(caught.value.__cause__, ValueError)


def test_an_op_that_breaks_its_word() -> None:
    with pytest.raises(InputError, match="declared as"):
        load("tests.wrong")(X)


def test_an_op_whose_library_is_missing() -> None:
    with pytest.raises(MissingDependencyError, match="no_such_library"):
        load("tests.needy")(X)


def test_an_op_that_is_not_here() -> None:
    with pytest.raises(MissingDependencyError, match=r"'os\.system'"):
        load("os.system")


def test_an_op_of_another_version() -> None:
    for outputs in ({"y": "float64[3]"}, {"y": "float32[3, 1]"}, {**Y, "z": "float32[3]"}):
        with pytest.raises(BundleError, match="built with one that gives"):
            load("tests.same", outputs)


@pytest.mark.parametrize(
    "options",
    [{}, {"op": 3}, {"op": "tests.same", "options": [1]}, {"op": "tests.same", "import": "os"}],
)
def test_malformed_artifacts(options: dict[str, Any]) -> None:
    info = SegmentInfo("op", "host", specs({"x": "float32[3]"}), specs(Y))
    with pytest.raises(BundleError):
        HostExecutor().load(ArtifactFiles(None, Path(), (), options, info), DeviceOptions())
