from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from partitioner.artifacts.bundle import Bundle
from partitioner.backends.execution import DeviceOptions
from partitioner.runtime.bundles import load_bucket
from partitioner.runtime.pipeline import Pipeline
from tests.loops import finite, make_loop_bucket

Loaders = dict[int, Callable[[], Pipeline]]


@pytest.fixture(scope="session")
def loaders(tmp_path_factory: pytest.TempPathFactory) -> Loaders:
    """By batch size, what loads the bucket of a small pipeline with a loop."""
    return made(tmp_path_factory.mktemp("loops"), steps=False)


@pytest.fixture(scope="session")
def step_loaders(tmp_path_factory: pytest.TempPathFactory) -> Loaders:
    """The same, where requests share steps."""
    return made(tmp_path_factory.mktemp("steps"), steps=True)


def made(folder: Path, *, steps: bool) -> Loaders:
    device = DeviceOptions(host_ops=(finite,))
    paths = {rows: make_loop_bucket(folder / str(rows), rows, steps=steps) for rows in (1, 4)}
    return {r: partial(load_bucket, Bundle.open(path), device) for r, path in paths.items()}
