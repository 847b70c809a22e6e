"""Bundles whose requests share steps, built and served: each is what the eager pipeline gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import partitioner
from partitioner.artifacts.index import BundleIndex
from partitioner.bisection import bisect_bundle
from partitioner.errors import UsageError
from partitioner.rebuilding import pipeline_options
from partitioner.runtime.batches import BatchedPipeline
from partitioner.runtime.events import StepEvent
from partitioner.runtime.requests import Request
from tests.test_batches import EXAMPLE, Array, Pipeline, eager, positive


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("steps") / "small.bundle"
    variants = [{"steps": 3}, {"steps": 5}]
    partitioner.build(
        Pipeline(), EXAMPLE, output=path, batch=[1, 4], variants=variants, step_batching=True
    )
    return path


@pytest.fixture(scope="module")
def pipe(path: Path) -> BatchedPipeline:
    loaded = partitioner.load(path, host_ops=[positive])
    assert isinstance(loaded, BatchedPipeline)
    return loaded


def image(number: int) -> Array:
    return np.random.default_rng(number).standard_normal((1, 8)).astype(np.float32)


def test_requests_of_all_variants_share_steps(pipe: BatchedPipeline) -> None:
    requests: list[Request] = []

    def submit(number: int) -> None:
        steps = (3, 5)[number % 2]
        requests.append(
            pipe.submit(image=image(number), seed=number, steps=steps, callback=following)
        )

    def following(event: StepEvent) -> None:
        if len(requests) < 12:
            submit(len(requests))

    submit(0)
    for number in range(12):
        actual = requests[number].result(60)
        expected = eager(image(number), number, (3, 5)[number % 2])
        np.testing.assert_allclose(expected["latent"], actual["latent"], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(expected["kept"], actual["kept"], rtol=1e-4, atol=1e-5)


def test_calls_are_served_as_ever(pipe: BatchedPipeline) -> None:
    actual = pipe(image=[image(0), image(1), image(2)], seed=[0, 1, 2], steps=5)
    for number in range(3):
        expected = eager(image(number), number, 5)
        np.testing.assert_allclose(
            expected["latent"][0], actual["latent"][number], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("sizes", [[4], [1], []])
def test_steps_are_shared_beside_a_bucket_of_one(sizes: list[int], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a bucket of one request, and larger ones"):
        partitioner.build(
            Pipeline(), EXAMPLE, output=tmp_path / "b", batch=sizes, step_batching=True
        )


class Straight(Pipeline):
    """No loop."""

    def forward(self, image: torch.Tensor, *, steps: int = 4) -> dict[str, Any]:
        return {"latent": self.encoder(image)}


class Collecting(Pipeline):
    """What all steps give is kept."""

    def forward(self, image: torch.Tensor, *, steps: int = 4) -> dict[str, Any]:
        cond = x = self.encoder(image)
        every: list[torch.Tensor] = []
        for t in torch.linspace(999, 0, steps):
            x = self.denoiser(x, t, cond)
            every.append(x)
        return {"latent": torch.stack(every, dim=1)}


@pytest.mark.parametrize(
    ("pipeline", "why"), [(Straight, "0 loops, not one"), (Collecting, "cannot share")]
)
def test_it_is_refused_before_anything_is_compiled(
    pipeline: type[Pipeline], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[str] = []
    monkeypatch.setattr(
        "partitioner.compiling.compile_segment", lambda _, segment, *rest: compiled.append(segment)
    )
    with pytest.raises(UsageError, match=why):
        partitioner.build(
            pipeline(), EXAMPLE, output=tmp_path / "b", batch=[1, 2], step_batching=True
        )
    assert [] == compiled


def test_it_is_bisected_with_the_options_of_its_pipeline(path: Path) -> None:
    bundle = BundleIndex.open(path, "always").only({"batch": "1"})
    options = pipeline_options(bundle.manifest)
    assert {"steps": 3} == options
    found = bisect_bundle(bundle, Pipeline(), EXAMPLE, options=options)
    assert "healthy" == found.kind, found
