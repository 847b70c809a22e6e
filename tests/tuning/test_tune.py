"""Factors from measurements, and what is said where there is nothing to choose."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import partitioner
from partitioner.artifacts.writer import BundleWriter
from partitioner.backends.base import CompileOptions
from partitioner.errors import BundleError, ModelError, UsageError
from partitioner.recipes import read_recipe
from partitioner.replanning import tune, tune_as
from partitioner.tuning import Tuned, scale_of
from partitioner.tuning.measuring import Workbench
from partitioner.tuning.pieces import pieces_of

from .samples import TwoStages, prepared


def test_pieces_are_compiled_and_timed_for_real(tmp_path: Path):
    one = prepared()
    with BundleWriter(tmp_path / "weights") as writer:
        options = CompileOptions(tmp_path, writer.blobs_dir)
        bench = Workbench(one.program.constants, writer, tmp_path, options)
        for piece in pieces_of(one.program, one.planned, one.target):
            (measured,) = bench.measure(piece.part, ["onnx"]).values()
            assert measured.seconds is not None
            assert 0 < measured.seconds < 1
            assert "" == measured.failure


def test_a_backend_that_cannot_compile_a_piece_is_a_result(tmp_path: Path):
    one = prepared()
    with BundleWriter(tmp_path / "weights") as writer:
        # No compiler fits into so little memory.
        options = CompileOptions(tmp_path, writer.blobs_dir, memory_bytes=2**20)
        bench = Workbench(one.program.constants, writer, tmp_path, options)
        piece = pieces_of(one.program, one.planned, one.target)[0]
        (measured,) = bench.measure(piece.part, ["onnx"]).values()
    assert measured.seconds is None
    assert measured.failure


def test_factors_are_measured_by_estimated():
    one = prepared()
    pieces = pieces_of(one.program, one.planned, one.target)
    estimate = [piece.estimate["onnx"] for piece in pieces]
    tuned = [
        Tuned("encoder", "main", 1, {"onnx": 2 * estimate[0]}, {}),
        Tuned("decoder", "main", 1, {"onnx": None}, {"onnx": "it fell over"}),
    ]
    scale = scale_of(pieces, tuned)
    first, second = (piece.part.nodes[0].name for piece in pieces)
    assert 2.0 == pytest.approx(scale.of("main", first, "onnx"))
    # What failed is worse than anything that was measured.
    failed = scale.of("main", second, "onnx")
    assert failed is not None
    assert failed > 1000
    assert 2.0 == pytest.approx(scale.of("main", "unknown", "onnx"))
    assert scale.of("main", "unknown", "other") is None


def test_with_one_backend_there_is_nothing_to_tune():
    with pytest.raises(UsageError) as caught:
        tune(prepared(backends=["onnx"]))
    assert "tuning for 'cpu' has nothing to choose from" in caught.value.what


def test_measurements_of_another_pipeline_are_refused():
    measured = [Tuned("encoder", "main", 999, {"onnx": 1.0}, {})]
    with pytest.raises(ModelError):
        tune_as(prepared(), measured)


def test_a_recipe_reads_what_a_build_writes():
    one = prepared()
    recipe = read_recipe(one.recipe)
    assert list(one.target.backends) == recipe.backends
    assert not recipe.overrides
    assert () == recipe.measured
    tuned = Tuned("encoder", "main", 3, {"onnx": 0.5, "other": None}, {"other": "no"})
    assert (tuned,) == read_recipe({"measured": [tuned.plain()]}).measured


@pytest.mark.parametrize(
    "document",
    [
        3,
        {"backends": "onnx"},
        {"backends": [1]},
        {"stages": ["a"]},
        {"ops": {"sin": 3}},
        {"measured": [{}]},
        {
            "measured": [
                {"piece": "a", "graph": "main", "nodes": "x", "seconds": {}, "failures": {}}
            ]
        },
        {"measured": 3},
    ],
)
def test_a_recipe_of_another_form_is_refused(document: object):
    with pytest.raises(BundleError) as caught:
        read_recipe(document)
    assert "placement" in caught.value.what


def test_a_tuned_build_is_placed_by_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PARTITIONER_CACHE", str(tmp_path / "cache"))
    one = prepared(backends=["openvino", "onnx"])
    tuned = tune(one)
    for own in tuned.tuned:
        assert {"openvino", "onnx"} == own.seconds.keys()
        assert () == own.cached
    # Found again, so that the same plan comes of it; and a bundle's record makes it, too.
    again = tune(one)
    assert [("openvino", "onnx")] * len(again.tuned) == [own.cached for own in again.tuned]
    assert [own.seconds for own in tuned.tuned] == [own.seconds for own in again.tuned]
    assert tuned.planned.plan == again.planned.plan
    assert tuned.planned.plan == tune_as(one, read_recipe(tuned.recipe).measured).planned.plan


def test_a_tuned_bundle_gives_the_eager_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PARTITIONER_CACHE", str(tmp_path / "cache"))
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(1))
    module, output = TwoStages().eval(), tmp_path / "tuned.bundle"
    partitioner.build(module, {"x": x}, output=output, backends=["openvino", "onnx"], tune=True)
    with partitioner.load(output) as pipe, torch.no_grad():
        (actual,) = pipe(x=x.numpy()).values()
        torch.testing.assert_close(torch.from_numpy(actual), module(x), rtol=1e-4, atol=1e-6)
