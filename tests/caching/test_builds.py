"""Whole builds: the same bundle with and without the cache, and only what changed is made anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from partitioner.artifacts.bundle import Bundle
from partitioner.backends.onnx.compile import OnnxCompiler
from partitioner.builder import BuildResult, build
from partitioner.caching import CacheOptions
from partitioner.runtime.verify import verify_bundle
from tests.small_pipeline import EXAMPLE, Pipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("builds")


def built(folder: Path, name: str, pipeline: Any, **how: Any) -> BuildResult:
    cache = CacheOptions(folder=folder / "cache", **how)
    return build(pipeline, EXAMPLE, output=folder / name, name="pipe", cache=cache)


@pytest.fixture(scope="module")
def first(folder: Path) -> BuildResult:
    """The first build fills the cache."""
    return built(folder, "first", Pipeline())


def found(result: BuildResult) -> dict[str, str]:
    return {row["name"]: row["where"] for row in result.report["cache"]["lookups"]}


SEGMENTS = ("encoder", "denoiser", "decoder")


def test_a_rebuild_compiles_and_checks_nothing(
    first: BuildResult, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: object, **named: object) -> None:
        raise AssertionError("everything is known")

    monkeypatch.setattr(OnnxCompiler, "compile", never)
    monkeypatch.setattr("partitioner.job.run_eager", never)
    again = built(folder, "again", Pipeline())
    assert first.digest == again.digest
    assert dict.fromkeys((*SEGMENTS, "pipe"), "") == found(first)
    assert dict.fromkeys((*SEGMENTS, "pipe"), "disk") == found(again)
    assert first.report["parity"] == again.report["parity"]
    assert verify_bundle(folder / "again").ok


def test_one_changed_stage_is_compiled_alone(first: BuildResult, folder: Path) -> None:
    """Its ops change, so all that is captured later is numbered anew."""
    changed = Pipeline()
    changed.encoder = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16))
    again = built(folder, "changed", changed)
    assert {"encoder": "", "denoiser": "disk", "decoder": "disk", "pipe": ""} == found(again)
    without = built(folder, "changed-without", changed, mode="off")
    assert (again.digest, {}) == (without.digest, without.report["cache"])


def test_other_weights_need_no_compiler_but_the_check(
    first: BuildResult, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OnnxCompiler, "compile", None)
    tuned = Pipeline()
    with torch.no_grad():
        tuned.denoiser.inner.weight.mul_(1.5)
    again = built(folder, "tuned", tuned)
    assert {**dict.fromkeys(SEGMENTS, "disk"), "pipe": ""} == found(again)
    (parity,) = [r for r in again.report["cache"]["lookups"] if r["kind"] == "parity"]
    assert parity["differences"][0].startswith("weights (denoiser sha256:")
    blobs = [{b.digest for b in Bundle.open(folder / n).manifest.blobs} for n in ("tuned", "first")]
    assert blobs[0] != blobs[1]
