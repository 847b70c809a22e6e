"""The example for Neuron, from build to mesh. Through the stand-in and, where it is, the SDK."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from partitioner.artifacts.bundle import Bundle
from partitioner.builder import build
from partitioner.finishing import finish_bundle
from partitioner.modelfile import load_model
from partitioner.runtime.verify import verify_bundle
from tests.neuron_standin import two_cores

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield from two_cores(tmp_path_factory.mktemp("standin"))


@pytest.mark.slow
def test_bernini_from_build_to_mesh(sdk: str, tmp_path: Path) -> None:
    loaded = load_model(str(ROOT / "examples/bernini/model.py"), {"size": "tiny", "steps": 2})
    build(
        loaded.pipeline,
        loaded.example_inputs,
        inputs=loaded.inputs,
        stages=loaded.stages,
        options=loaded.options,
        target="inf2",
        defer_compile=True,
        output=tmp_path / "b",
    )
    manifest = Bundle.open(tmp_path / "b").manifest
    backends = {info.backend for info in manifest.plan.segments.values()}
    # Neuron and the host in one plan.
    assert {"neuron", "host"} == backends
    finish_bundle(tmp_path / "b")
    assert verify_bundle(tmp_path / "b", allow_executable=True).ok
