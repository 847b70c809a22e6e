"""A sound bundle on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.artifacts.samples import write_bundle


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "sample.bundle")
    return tmp_path / "sample.bundle"
