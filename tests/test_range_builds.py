"""Builds for a range of batch sizes: backends, precisions, workers, the compile cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import partitioner
from partitioner.artifacts.bundle import Bundle
from partitioner.backends.worker import stop_worker
from partitioner.builder import BuildResult, build
from partitioner.caching.options import CacheOptions
from partitioner.errors import UsageError
from partitioner.finishing import finish_bundle
from partitioner.quality import QualityBudget
from tests.neuron_pipeline import mlp
from tests.neuron_standin import two_cores

EXAMPLE = {"image": torch.linspace(-1, 1, 64).reshape(1, 64)}

IMAGES = np.sin(np.arange(5 * 64, dtype=np.float32)).reshape(5, 64)


class Rows(nn.Module):
    """Two stages, so that there are two segments where a backend is named for one of them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.encoder = mlp(64, 1024)
        self.decoder = nn.Linear(1024, 8)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.encoder(image))


@pytest.fixture(scope="module", autouse=True)
def _no_worker_is_left() -> Iterator[None]:
    yield
    stop_worker()


def built(path: Path, **options: Any) -> BuildResult:
    return build(Rows(), EXAMPLE, **{"output": path, "batch": ["1-4"], **options})


def relative_error(path: Path, **options: Any) -> float:
    """How far five requests, by calls of four and one and of two and three, are from eager."""
    with torch.no_grad():
        wanted = Rows()(torch.from_numpy(IMAGES)).numpy()
    with partitioner.load(path, **options) as pipe:
        found = [pipe(image=part)["output"] for part in (IMAGES, IMAGES[:2], IMAGES[2:])]
    errors = (np.abs(one - wanted) for one in (found[0], np.concatenate(found[1:])))
    return max(float(one.max()) for one in errors) / float(np.abs(wanted).max())


@pytest.mark.parametrize(
    ("backend", "precision", "limit"),
    [
        ("onnx", "f16", 5e-3),
        pytest.param("openvino", "f32", 1e-4, marks=pytest.mark.slow),
        pytest.param("onnx", "bf16", 5e-2, marks=pytest.mark.slow),
        pytest.param("openvino", "f16", 5e-3, marks=pytest.mark.slow),
        pytest.param("openvino", "bf16", 5e-2, marks=pytest.mark.slow),
    ],
)
def test_each_precision_holds_at_every_size(
    tmp_path: Path, backend: str, precision: Any, limit: float
) -> None:
    built(tmp_path / "b", backends=[backend], precision=precision)
    assert relative_error(tmp_path / "b") < limit
    artifacts = Bundle.open(tmp_path / "b").manifest.artifacts
    assert {backend} == {one.backend for one in artifacts.values()}


@pytest.mark.slow
def test_for_a_xeon_it_computes_in_bfloat16_at_every_size(tmp_path: Path) -> None:
    built(tmp_path / "b", target="xeon", precision="bf16")
    manifest = Bundle.open(tmp_path / "b").manifest
    assert "xeon" == manifest.target
    assert relative_error(tmp_path / "b", device="xeon") < 5e-2


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ({"accuracy_budget": 0.05}, "--accuracy-budget"),
        ({"accuracy_budget": 0.05, "quantize": "int8"}, "--accuracy-budget"),
        ({"quality_budget": QualityBudget(lambda *_: 1.0, (), 0.9)}, "--quality-budget"),
        ({"tune": True}, "--tune"),
    ],
)
@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_what_is_found_at_one_size_is_refused(
    tmp_path: Path, backend: str, option: dict[str, Any], name: str
) -> None:
    with pytest.raises(UsageError) as caught:
        built(tmp_path / "b", backends=[backend], **option)
    assert f"{name} takes buckets of one size each, not the range 1-4" == caught.value.what
    assert [] == list(tmp_path.iterdir())


@pytest.mark.slow
def test_workers_and_the_cache_give_the_same_bundle(tmp_path: Path) -> None:
    cache = CacheOptions(folder=tmp_path / "cache")
    one = built(tmp_path / "one", engine="local", jobs=1, cache=cache)
    two = built(tmp_path / "two", engine="local", jobs=2, cache=CacheOptions("off"))
    again = built(tmp_path / "again", engine="local", jobs=2, cache=cache)
    assert one.digest == two.digest == again.digest
    assert all(places_of(again))
    # The most rows are the same, but what is compiled serves other sizes.
    other = built(tmp_path / "other", batch=["2-4"], cache=cache)
    assert not any(places_of(other))


def places_of(result: BuildResult) -> list[str]:
    """Where each key was found in the compile cache; empty for what was made anew."""
    places = [lookup["where"] for lookup in result.report["cache"]["lookups"]]
    assert len(places) > 1
    return places


# --- targets whose backend compiles for one size ------------------------------------------------


@pytest.mark.parametrize("target", ["inf2", ["inf2", "cpu"]])
def test_a_range_is_refused_where_neuron_would_take_a_segment(tmp_path: Path, target: Any) -> None:
    with pytest.raises(UsageError) as caught:
        built(tmp_path / "b", target=target, defer_compile=True)
    check_refused(caught.value, tmp_path)


def test_it_is_refused_with_an_sdk_before_anything_is_compiled(tmp_path: Path) -> None:
    for _ in two_cores(tmp_path / "standin"):
        with pytest.raises(UsageError) as caught:
            built(tmp_path / "out" / "b", target="inf2")
        check_refused(caught.value, tmp_path / "out")


def test_the_plan_of_every_bucket_is_made_before_anything_is_compiled(tmp_path: Path) -> None:
    given: dict[str, Any] = {"batch": [1, "2-4"], "target": "inf2", "defer_compile": True}
    with pytest.raises(UsageError, match="compiles for one batch size"):
        built(tmp_path / "b", cache=CacheOptions(folder=tmp_path / "cache"), **given)
    assert [] == [path for path in tmp_path.rglob("*") if path.is_file()]


def check_refused(error: UsageError, folder: Path) -> None:
    assert "'neuron' compiles for one batch size (dynamic-shape)" in error.what
    assert "takes the segment" in error.what
    assert "neuron_pipeline.py" in str(error.where) or "test_range_builds.py" in str(error.where)
    assert "build a bucket for each size: --batch 1,4" in str(error.advice)
    assert [] == list(folder.iterdir())


def test_what_neuron_leaves_to_the_host_is_built_at_once(tmp_path: Path) -> None:
    small = {"image": torch.ones(1, 3)}
    deferred = build(
        nn.Linear(3, 3).eval(),
        {"input": small["image"]},
        target="inf2",
        defer_compile=True,
        batch=["1-4"],
        output=tmp_path / "b",
    )
    assert () == finish_bundle(deferred.path).compiled
    manifest = Bundle.open(deferred.path).manifest
    assert {"onnx"} == {one.backend for one in manifest.artifacts.values()}
    with partitioner.load(deferred.path, device="inf2") as pipe:
        assert (3, 3) == pipe(input=np.ones((3, 3), np.float32))["output"].shape
