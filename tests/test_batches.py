"""Bundles with buckets, built and served: every row is what the eager pipeline gives it alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import partitioner
from partitioner.artifacts.index import BundleIndex
from partitioner.errors import CaptureError, ParityError, UsageError
from partitioner.hostops import host_op
from partitioner.runtime.batches import BatchedPipeline
from partitioner.runtime.verify import verify_bundle

Array = np.ndarray[Any, Any]


@host_op(name="tests.batches.positive", outputs={"kept": ("float32", (None,))})
def positive(row: Array) -> Array:
    return row[row > 0]


class Denoiser(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(16, 64)
        self.outer = nn.Linear(64, 16)
        self.norm = nn.LayerNorm(16)

    def forward(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        shifted = self.norm(x) + cond + torch.sin(t / 1000)
        return self.outer(nn.functional.gelu(self.inner(shifted)))


class Pipeline(nn.Module):
    """Guided sampling with noise in each step; results of which each has its own size."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.encoder = nn.Linear(8, 16)
        self.denoiser = Denoiser()

    def forward(self, image: torch.Tensor, *, steps: int = 4) -> dict[str, Any]:
        cond = self.encoder(image)
        both = torch.cat([cond, self.encoder(torch.zeros_like(image))])
        x = torch.randn(image.shape[0], 16)
        for t in torch.linspace(999, 0, steps):
            guided, plain = self.denoiser(torch.cat([x, x]), t, both).chunk(2)
            x = 0.5 * x + 0.3 * (plain + 1.5 * (guided - plain)) + 0.1 * torch.randn_like(x)
        kept = [positive(row[0])["kept"] for row in x.split(1)]
        return {"latent": x, "kept": kept if len(kept) > 1 else kept[0]}


EXAMPLE = {"image": torch.linspace(-1, 1, 8).reshape(1, 8)}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("batches") / "small.bundle"
    variants = [{"steps": 3}, {"steps": 5}]
    partitioner.build(Pipeline(), EXAMPLE, output=path, batch=[4, 1], variants=variants)
    return path


@pytest.fixture(scope="module")
def pipe(bundle: Path) -> BatchedPipeline:
    loaded = partitioner.load(bundle, host_ops=[positive])
    assert isinstance(loaded, BatchedPipeline)
    return loaded


def eager(image: Array, seed: int, steps: int) -> dict[str, Array]:
    pipeline = Pipeline()
    torch.manual_seed(seed)
    with torch.no_grad():
        found = pipeline(torch.from_numpy(image), steps=steps)
    return {name: tensor.numpy() for name, tensor in found.items()}


@settings(max_examples=8, deadline=None)
@given(rows=st.integers(1, 9), steps=st.sampled_from([3, 5]), first=st.integers(0, 1000))
def test_every_row_is_the_eager_pipelines(
    pipe: BatchedPipeline, rows: int, steps: int, first: int
) -> None:
    image = np.random.default_rng(first).standard_normal((rows, 8)).astype(np.float32)
    seeds = [first + 7 * row for row in range(rows)]
    actual = pipe(image=list(image), seed=seeds, steps=steps)
    assert (rows, 16) == actual["latent"].shape
    for row in range(rows):
        expected = eager(image[row : row + 1], seeds[row], steps)
        np.testing.assert_allclose(
            expected["latent"], actual["latent"][row : row + 1], rtol=1e-4, atol=1e-5
        )
        kept = actual["latent"][row][actual["latent"][row] > 0]
        np.testing.assert_array_equal(kept, actual["kept"][row])


def test_a_batch_is_the_eager_pipelines_at_that_batch(bundle: Path) -> None:
    """Its noise is each row's own, and is given to the eager pipeline likewise."""
    names = [row.name for row in verify_bundle(bundle, host_ops=[positive]).rows]
    texts = [f"target=cpu,batch={rows}: output latent" for rows in (1, 4)]
    assert texts == [name for name in names if name in texts]
    assert "target=cpu,batch=4: output kept.3" in names


def test_buckets_are_members_that_share_their_weights(bundle: Path) -> None:
    index = BundleIndex.open(bundle)
    assert ["target=cpu,batch=1", "target=cpu,batch=4"] == [str(m) for m in index.members]
    one, four = (index.bundle(member).manifest for member in index.members)
    weights = {w for a in one.artifacts.values() for w in a.weights}
    assert weights <= {w for a in four.artifacts.values() for w in a.weights}
    own = {b.digest for b in four.blobs} - {b.digest for b in one.blobs}
    sizes = [b.size for b in four.blobs if b.digest in own and "weights" in b.media_type]
    assert sum(sizes) < 0.1 * sum(b.size for b in one.blobs if b.digest in weights)


def test_one_bucket_can_be_loaded_alone(bundle: Path) -> None:
    with partitioner.load(bundle, variant={"batch": "4"}, host_ops=[positive]) as pipe:
        assert isinstance(pipe, BatchedPipeline)
        assert (4,) == pipe.batch_sizes
        assert (2, 16) == pipe(image=np.zeros((2, 8)), seed=1)["latent"].shape
        with pytest.raises(KeyError):
            pipe.labels["batch"]


def test_a_bundle_of_one_bucket_has_one_member(tmp_path: Path) -> None:
    def lost(x: torch.Tensor) -> torch.Tensor:
        return x.sum()

    path = tmp_path / "one.bundle"
    partitioner.build(lost, {"x": torch.ones(1, 3)}, output=path, batch=[1], name="one")
    with partitioner.load(path) as pipe:
        out = pipe(x=np.arange(6).reshape(2, 3))
    assert [3.0, 12.0] == [float(total) for total in out["output"]]
    assert ["target=cpu,batch=1"] == [str(m) for m in BundleIndex.open(path).members]


def test_rows_that_meet_are_refused(tmp_path: Path) -> None:
    def mixed(x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(dim=0, keepdim=True)

    with pytest.raises(ParityError, match="row 1 of the output 'output'"):
        partitioner.build(mixed, {"x": torch.arange(3.0)[None]}, output=tmp_path / "x", batch=[2])
    assert [] == list(tmp_path.iterdir())


def test_a_pipeline_for_one_request_names_the_line(tmp_path: Path) -> None:
    def single(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros(1, 3), x], dim=1)

    with pytest.raises(CaptureError, match="with 2 requests at once") as caught:
        partitioner.build(single, {"x": torch.ones(1, 3)}, output=tmp_path / "x", batch=[1, 2])
    assert "test_batches.py" in str(caught.value.where)


def test_sizes_are_checked_first(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="1 to 4096 rows"):
        partitioner.build(Pipeline(), EXAMPLE, output=tmp_path / "x", batch=[0])
