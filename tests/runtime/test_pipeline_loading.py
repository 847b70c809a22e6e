"""Bundles that are loaded, or cannot be, and segments that fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from partitioner.backends.onnx.execute import OnnxExecutable
from partitioner.errors import (
    BackendError,
    BundleError,
    IncompatibleBundleError,
    MissingDependencyError,
    UsageError,
)
from partitioner.plan import Call, Loop, Slice, Stacked
from partitioner.runtime import Pipeline, load
from partitioner.specs import InputSpec
from tests.bundles import Maker, node, spec
from tests.runtime.samples import IMAGE, TIMES, WEIGHT, count_positive, make_sampler


def test_options_that_cannot_be_meant(bundle: Path) -> None:
    wrong: list[dict[str, Any]] = [{"threads": 0}, {"memory": "huge"}, {"verify": "maybe"}]
    for options in wrong:
        with pytest.raises(UsageError):
            load(bundle, **options)


@pytest.mark.parametrize("memory", ["fast", "low"])
def test_memory_modes_agree(bundle: Path, pipe: Pipeline, memory: Any) -> None:
    other = load(bundle, host_ops=[count_positive], memory=memory, verify="always")

    np.testing.assert_allclose(
        pipe(image=IMAGE, seed=1)["latent"],
        other(image=IMAGE, seed=1)["latent"],
        rtol=1e-4,
        atol=1e-5,
    )


def test_segments_of_the_same_graph_share_a_session(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "b")
    for name in ("first", "rest"):
        maker.onnx(
            name,
            {"a": "float32[1, 8]"},
            {"b": "float32[1, 8]"},
            [node("MatMul", ["a", "w"], ["b"])],
            weights={"w": WEIGHT},
        )
    maker.write(
        [InputSpec("x", spec("float32[1, 8]"))],
        [Call("first", ("x",), ("h",)), Call("rest", ("h",), ("y",))],
        {"y": "y"},
    )
    with load(maker.path) as pipe:
        first, rest = pipe._executables.values()
        assert first is rest
        np.testing.assert_allclose(IMAGE @ WEIGHT @ WEIGHT, pipe(x=IMAGE)["y"], atol=1e-5)


def test_a_host_op_that_is_not_here(bundle: Path) -> None:
    with pytest.raises(MissingDependencyError, match=r"tests\.count_positive"):
        load(bundle)


def test_a_backend_that_is_not_here(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "b")
    maker.host("one", "tests.count_positive", {"a": "float32[2]"}, {"b": "float32[2]"})
    maker.segments["one"] = _replace(maker.segments["one"], backend="abacus")
    maker.artifacts["one"] = _replace(maker.artifacts["one"], backend="abacus")
    maker.write([InputSpec("a", spec("float32[2]"))], [Call("one", ("a",), ("b",))], {"b": "b"})

    with pytest.raises(IncompatibleBundleError, match="'abacus' is not installed"):
        load(maker.path)


def test_values_that_no_array_can_hold(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "b")
    maker.host("one", "tests.count_positive", {"a": "float32[2]"}, {"b": "bfloat16[2]"})
    maker.write([InputSpec("a", spec("float32[2]"))], [Call("one", ("a",), ("b",))], {"b": "b"})

    with pytest.raises(IncompatibleBundleError, match="bfloat16"):
        load(maker.path)


def test_a_damaged_weight_is_found_before_it_is_used(tmp_path: Path) -> None:
    path = make_sampler(tmp_path / "b")
    for blob in (path / "blobs" / "sha256").iterdir():
        if blob.read_bytes() == WEIGHT.tobytes():
            blob.chmod(0o644)
            blob.write_bytes((WEIGHT + 1).tobytes())

    with pytest.raises(BundleError, match="its content was changed"):
        load(path, host_ops=[count_positive])
    assert "latent" in load(path, host_ops=[count_positive], verify="never")(image=IMAGE)


def test_a_damaged_constant_leaves_no_segment_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_sampler(tmp_path / "b")
    for blob in (path / "blobs" / "sha256").iterdir():
        if blob.read_bytes() == TIMES.tobytes():
            blob.chmod(0o644)
            blob.write_bytes((TIMES + 1).tobytes())
    closed: list[str] = []
    close = OnnxExecutable.close

    def note(self: OnnxExecutable) -> None:
        closed.append(self.info.name)
        close(self)

    monkeypatch.setattr(OnnxExecutable, "close", note)
    with pytest.raises(BundleError, match="its content was changed"):
        load(path, host_ops=[count_positive])
    assert {"encode", "mix", "denoise"} == set(closed)


def test_a_failing_segment_is_named_with_its_source_and_step(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "b")
    maker.onnx(
        "pick",
        {"a": "float32[2]", "index": "int64[1]"},
        {"b": "float32[1]"},
        [node("Gather", ["a", "index"], ["b"])],
    )
    maker.constant("indices", np.array([[0], [1], [9]]))
    loop = Loop(
        "walk",
        3,
        (),
        (Slice("indices", "index"),),
        (Stacked("b", "all"),),
        (Call("pick", ("a", "index"), ("b",)),),
    )
    maker.write([InputSpec("a", spec("float32[2]"))], [loop], {"all": "all"})
    pipe = load(maker.path)

    with pytest.raises(BackendError) as caught:
        pipe(a=[1, 2])
    assert "segment 'pick' failed in ONNX Runtime" in caught.value.what
    assert "segment 'pick' (model.py:7 in pick), step 3 of 3 of 'walk'" == caught.value.where
    assert caught.value.advice


def _replace(value: Any, **changes: Any) -> Any:
    import dataclasses

    return dataclasses.replace(value, **changes)
