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
    """Ray with two CPUs, whose processes can import the tests; or the cluster of RAY_ADDRESS."""
    import ray

    root = Path(__file__).resolve().parents[1]
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    processes = {"env_vars": {"PYTHONPATH": path, "PARTITIONER_COMPILE_CACHE": "off"}}
    # Short, since paths of sockets are limited to 107 bytes.
    folder = tempfile.mkdtemp(prefix="ray")
    if "RAY_ADDRESS" in os.environ:
        ray.init(log_to_driver=False, runtime_env=processes)
    else:
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=100 * 2**20,
            _temp_dir=folder,
            runtime_env=processes,
        )
    yield ray
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
