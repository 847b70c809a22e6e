"""Neuron's SDK, or its stand-in, and a segment that is compiled by it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.backends.neuron_segments import Files, segment_files
from tests.neuron_standin import behave, two_cores


@pytest.fixture(scope="module")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield from two_cores(tmp_path_factory.mktemp("standin"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return segment_files(tmp_path_factory.mktemp("segment"))


@pytest.fixture(scope="module")
def made(sdk: str, files: Files, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return files.compile(tmp_path_factory.mktemp("made"))


@pytest.fixture
def well(standin: Path) -> Iterator[Path]:
    """The stand-in, which behaves as it should again afterwards."""
    yield standin
    behave(standin)
