"""One bucket for a range of batch sizes, built and served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import partitioner
from partitioner.artifacts.index import BundleIndex
from partitioner.batching import check_sizes, parse_sizes
from partitioner.errors import CaptureError, UsageError
from partitioner.rowcounts import RowRange
from partitioner.runtime.batches import BatchedPipeline
from partitioner.runtime.verify import verify_bundle
from tests.test_batches import EXAMPLE, Pipeline, eager, positive


@pytest.fixture(scope="module", params=["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ranges") / "small.bundle"
    backends = [request.param]
    partitioner.build(
        Pipeline(), EXAMPLE, output=path, batch=["1-4"], options={"steps": 3}, backends=backends
    )
    return path


@pytest.fixture(scope="module")
def pipe(bundle: Path) -> BatchedPipeline:
    loaded = partitioner.load(bundle, host_ops=[positive])
    assert isinstance(loaded, BatchedPipeline)
    return loaded


@settings(max_examples=8, deadline=None)
@given(rows=st.integers(1, 6), first=st.integers(0, 1000))
def test_every_row_is_the_eager_pipelines(pipe: BatchedPipeline, rows: int, first: int) -> None:
    image = np.random.default_rng(first).standard_normal((rows, 8)).astype(np.float32)
    seeds = [first + 7 * row for row in range(rows)]
    actual = pipe(image=list(image), seed=seeds)
    assert ((rows, 16), rows) == (actual["latent"].shape, len(actual["kept"]))
    for row in range(rows):
        expected = eager(image[row : row + 1], seeds[row], 3)
        own = actual["latent"][row : row + 1]
        np.testing.assert_allclose(expected["latent"], own, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(own[own > 0], actual["kept"][row])


def test_one_member_states_the_range_and_has_one_artifact_a_segment(bundle: Path) -> None:
    index = BundleIndex.open(bundle)
    assert ["target=cpu,batch=1-4"] == [str(member) for member in index.members]
    manifest = index.bundle(index.members[0]).manifest
    batch = manifest.batch
    assert batch is not None
    assert (1, 4, range(1, 5)) == (batch.least, batch.rows, batch.sizes)
    assert (1, 0) == batch.growth[manifest.plan.inputs["image"]]


def test_no_request_is_filled_up(pipe: BatchedPipeline) -> None:
    assert (1, 2, 3, 4) == pipe.batch_sizes
    before = {s.batch: s.calls for s in pipe.stats().segments if s.name == "denoiser"}
    pipe(image=np.zeros((3, 8)), seed=1)
    after = {s.batch: s.calls for s in pipe.stats().segments if s.name == "denoiser"}
    assert {3: 3} == {rows: n - before.get(rows, 0) for rows, n in after.items() if rows == 3}
    assert before.get(4, 0) == after.get(4, 0)


def test_submitted_requests_share_a_call_of_their_number(pipe: BatchedPipeline) -> None:
    image = np.ones((1, 8), np.float32)
    requests = [pipe.submit(image=image, seed=seed) for seed in (1, 2, 3)]
    for seed, request in zip((1, 2, 3), requests, strict=True):
        alone = pipe(image=image, seed=seed)["latent"]
        np.testing.assert_allclose(alone, request.result()["latent"], rtol=1e-4, atol=1e-5)


def test_segments_are_loaded_when_needed_for_all_sizes(bundle: Path) -> None:
    image = np.ones((2, 8), np.float32)
    with (
        partitioner.load(bundle, host_ops=[positive], lazy=True) as lazy,
        partitioner.load(bundle, host_ops=[positive]) as pipe,
    ):
        expected = pipe(image=image, seed=[1, 2])["latent"]
        np.testing.assert_array_equal(expected, lazy(image=image, seed=[1, 2])["latent"])


def test_the_sample_is_verified(bundle: Path) -> None:
    names = [row.name for row in verify_bundle(bundle, host_ops=[positive]).rows]
    assert any(name.endswith("output kept.3") for name in names)


def test_sizes_are_numbers_and_ranges() -> None:
    assert (1, RowRange(2, 8)) == parse_sizes("2-8, 1")
    assert (RowRange(1, 4),) == check_sizes(["1-4"])
    for text, what in (("1,1-4", "name one twice"), ("4-1", "no range"), ("1-", "takes sizes")):
        with pytest.raises(UsageError, match=what):
            parse_sizes(text)


def test_a_pipeline_that_differs_by_more_than_sizes_names_the_line(tmp_path: Path) -> None:
    def odd(x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.shape[0] % 2 else x * 2

    with pytest.raises(CaptureError, match="not the same for 4 and 5 requests") as caught:
        partitioner.build(odd, {"x": torch.ones(1, 3)}, output=tmp_path / "x", batch=["1-4"])
    assert "test_ranges.py" in str(caught.value.where)
    assert [] == list(tmp_path.iterdir())


def test_constants_that_are_others_for_each_size_are_refused(tmp_path: Path) -> None:
    def reversed_rows(x: torch.Tensor) -> torch.Tensor:
        return x + torch.arange(x.shape[0], 0, -1)[:, None]

    with pytest.raises((CaptureError,), match="other numbers for 5 requests"):
        partitioner.build(
            reversed_rows, {"x": torch.ones(1, 3)}, output=tmp_path / "x", batch=["1-4"]
        )


def test_what_needs_static_sizes_refuses_a_range(tmp_path: Path) -> None:
    given: dict[str, Any] = {"output": tmp_path / "x", "batch": [1, "2-4"]}
    with pytest.raises(UsageError, match="one size each"):
        partitioner.build(Pipeline(), EXAMPLE, step_batching=True, **given)
    for option in ({"tune": True}, {"accuracy_budget": 0.01}):
        with pytest.raises(UsageError, match="one size each, not the range 2-4"):
            partitioner.build(Pipeline(), EXAMPLE, **option, **given)
