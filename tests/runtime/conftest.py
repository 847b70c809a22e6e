"""The sampler's bundle, written and loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from partitioner.runtime import Pipeline, load
from tests.runtime.samples import count_positive, make_sampler


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sampler(tmp_path_factory.mktemp("bundles") / "sampler.bundle")


@pytest.fixture(scope="module")
def pipe(bundle: Path) -> Pipeline:
    return load(bundle, host_ops=[count_positive])
