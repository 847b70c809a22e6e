"""A small Ray cluster of this machine."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

__all__ = ["cluster"]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """Ray with two CPUs, whose processes can import the tests."""
    import ray

    root = Path(__file__).resolve().parents[1]
    # Short, since paths of sockets are limited to 107 bytes.
    folder = tempfile.mkdtemp(prefix="ray")
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 * 2**20,
        _temp_dir=folder,
        runtime_env={"env_vars": {"PYTHONPATH": path}},
    )
    yield ray
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
