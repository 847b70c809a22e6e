"""One bundle for several schedules: segments and weights are shared, only tables differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import partitioner
from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.manifest import Manifest
from partitioner.capture import capture
from partitioner.errors import InputError, UsageError
from partitioner.passes.pipeline import DEFAULT, parse_pipeline, run_pipeline
from partitioner.runtime.verify import verify_bundle
from partitioner.variants import for_variants, lengthen_tables, longest_loop, merge
from tests.diffusion import LatentPipeline, scheduler, unet, vae
from tests.passes.models import WIDTH, Guided

CONDITION = torch.randn(1, 5, WIDTH, generator=torch.Generator().manual_seed(3))


def build(path: Path, **options: Any) -> partitioner.BuildResult:
    return partitioner.build(Guided(), {"condition": CONDITION}, output=path, **options)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("variants") / "b"
    build(path, variants=[{"steps": 4}, {"steps": 9}, {"steps": 2}])
    return path


def run(path: Path, **options: Any) -> Any:
    with partitioner.load(path) as pipe:
        return pipe(condition=CONDITION.numpy(), seed=5, **options)["output"]


@pytest.mark.parametrize("steps", [4, 9, 2])
def test_a_variant_gives_what_a_bundle_of_its_own_gives(
    steps: int, bundle: Path, tmp_path: Path
) -> None:
    build(tmp_path / "own", options={"steps": steps})
    expected, actual = run(tmp_path / "own"), run(bundle, steps=steps)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_the_first_variant_is_taken_if_none_is_chosen(bundle: Path) -> None:
    np.testing.assert_array_equal(run(bundle), run(bundle, steps=4))
    assert not np.allclose(run(bundle), run(bundle, steps=9))
    with partitioner.load(bundle) as pipe:
        assert [{"steps": 4}, {"steps": 9}, {"steps": 2}] == pipe.variants


def test_the_callback_counts_the_variants_steps(bundle: Path) -> None:
    seen: list[int] = []
    run(bundle, steps=9, callback=lambda event: seen.append(event.trips))
    assert [9] * 9 == seen


def digests(manifest: Manifest) -> dict[str, tuple[str | None, tuple[str, ...]]]:
    return {name: (one.graph, one.weights) for name, one in manifest.artifacts.items()}


def test_nothing_but_tables_differs(bundle: Path, tmp_path: Path) -> None:
    build(tmp_path / "turned", variants=[{"steps": 9}, {"steps": 2}, {"steps": 4}])
    one, other = Bundle.open(bundle).manifest, Bundle.open(tmp_path / "turned").manifest
    assert digests(one) == digests(other)
    weights = {digest for artifact in one.artifacts.values() for digest in artifact.weights}
    tables = {ref.blob for variant in one.variants[1:] for ref in variant.constants.values()}
    assert not weights & tables
    sizes = {blob.digest: blob.size for blob in one.blobs}
    assert sum(sizes[t] for t in tables) < 0.2 * sum(sizes[w] for w in weights)
    # The same tables, whichever variant comes first.
    mine = {v.options["steps"]: _tables(one, i) for i, v in enumerate(one.variants)}
    theirs = {v.options["steps"]: _tables(other, i) for i, v in enumerate(other.variants)}
    assert mine == theirs


def _tables(manifest: Manifest, index: int) -> set[str]:
    own = {**manifest.constants, **manifest.variants[index].constants}
    return {ref.blob for ref in own.values()}


def test_more_variants_cost_tables_only(bundle: Path, tmp_path: Path) -> None:
    build(tmp_path / "one", options={"steps": 9})
    sizes = [
        sum(b.size for b in Bundle.open(p).manifest.blobs if "parity" not in b.media_type)
        for p in (tmp_path / "one", bundle)
    ]
    assert sizes[1] < 1.15 * sizes[0]


def test_every_variant_is_verified(bundle: Path) -> None:
    names = {row.name for row in verify_bundle(bundle).rows}
    assert {"output output", "steps=9 output output", "steps=2 output output"} <= names


def test_a_variant_that_is_not_there(bundle: Path) -> None:
    with pytest.raises(InputError, match="no variant with steps=7; it has steps=4; steps=9") as c:
        run(bundle, steps=7)
    assert "--variant steps=7" in (c.value.advice or "")
    with pytest.raises(InputError, match="no variant with steps="):
        run(bundle, steps=np.arange(3))
    with pytest.raises(InputError, match="guidance"):
        run(bundle, guidance=3)


def test_building_twice_gives_the_same_digest(bundle: Path, tmp_path: Path) -> None:
    again = build(tmp_path / "b", variants=[{"steps": 4}, {"steps": 9}, {"steps": 2}])
    assert Bundle.open(bundle).digest == again.digest


@pytest.mark.parametrize("name", ["DDIMScheduler", "EulerDiscreteScheduler"])
def test_a_sampler_of_diffusers_with_two_schedules(name: str, tmp_path: Path) -> None:
    """Euler scales the first noise by a number that depends on the steps."""
    pipeline = LatentPipeline(unet(), scheduler(name), vae())
    example = {"condition": torch.randn(1, 4, 16, generator=torch.Generator().manual_seed(1))}
    partitioner.build(
        pipeline, example, output=tmp_path / "b", variants=[{"steps": 4}, {"steps": 7}]
    )
    given = {name: tensor.numpy() for name, tensor in example.items()}
    for steps in (4, 7):
        partitioner.build(
            pipeline, example, output=tmp_path / "own", options={"steps": steps}, overwrite=True
        )
        with partitioner.load(tmp_path / "b") as both, partitioner.load(tmp_path / "own") as own:
            expected = next(iter(own(given, seed=2).values()))
            actual = next(iter(both({**given, "steps": steps}, seed=2).values()))
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)


# --- merging ------------------------------------------------------------------------------------


class Unequal(nn.Module):
    """More steps mean other ops."""

    def forward(self, x: torch.Tensor, *, steps: int) -> torch.Tensor:
        for step in range(steps):
            x = x + step * x.sin() if steps > 6 else x + step * x.cos()
        return x


def test_programs_that_differ_in_more_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="steps=6 and steps=7 do not give the same program") as c:
        partitioner.build(
            Unequal(),
            {"x": torch.randn(2)},
            output=tmp_path / "b",
            variants=[{"steps": 6}, {"steps": 7}],
        )
    assert "cos" in str(c.value)
    assert "test_variants.py" in str(c.value)
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ([{"steps": 4}, {"scale": 4}], "variants name the options"),
        ([{"steps": 4}, {"steps": 4}], "is given twice"),
        ([{"condition": 4}, {"condition": 5}], "is an input"),
        ([{"steps": [4]}, {"steps": [5]}], "the variant's steps is a list"),
    ],
)
def test_what_are_no_variants(variants: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        build(tmp_path / "b", variants=variants)


def test_the_merged_program_is_the_longest() -> None:
    programs = [
        capture(Guided(), {"condition": CONDITION}, options={"steps": steps}).program
        for steps in (2, 6, 4)
    ]
    rows = longest_loop(programs)
    assert 6 == rows
    passes = for_variants(parse_pipeline(DEFAULT), rows)
    long = [run_pipeline(lengthen_tables(p, rows), passes)[0] for p in programs]
    merged = merge(long, ["2", "6", "4"])
    assert [2, 6, 4] == [next(iter(v.trips.values())) for v in merged.variations]
    assert [(1, 2), (1, 6), (1, 4)] == [v.repeats for v in merged.variations]
    assert merged.program.held == set(merged.variations[0].constants)
    shapes = [{n: t.shape for n, t in v.constants.items()} for v in merged.variations]
    assert shapes[0] == shapes[1] == shapes[2]
