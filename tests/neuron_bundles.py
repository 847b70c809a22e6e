"""A bundle for Neuron on its way: deferred, and finished by the stand-in or the SDK itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from partitioner.builder import build
from partitioner.finishing import finish_bundle
from tests.neuron_pipeline import EXAMPLE, Pipeline
from tests.neuron_standin import two_cores

__all__ = ["deferred", "finished", "standin"]


@pytest.fixture(scope="module")
def deferred(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small pipeline with a loop: a segment before it, in it and after it; no SDK here."""
    path = tmp_path_factory.mktemp("deferred") / "small.bundle"
    build(Pipeline(), EXAMPLE, target="inf2", defer_compile=True, output=path)
    return path


@pytest.fixture(scope="module")
def standin(deferred: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield from two_cores(tmp_path_factory.mktemp("standin"))


@pytest.fixture(scope="module")
def finished(sdk: str, deferred: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("finished") / "small.bundle"
    finish_bundle(deferred, output=path)
    return path
