from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from partitioner.artifacts.bundle import Bundle
from partitioner.backends.execution import DeviceOptions
from partitioner.runtime.pipeline import Pipeline, load_bucket
from tests.loops import finite, make_loop_bucket


@pytest.fixture(scope="session")
def loaders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Callable[[], Pipeline]]:
    """By batch size, what loads the bucket of a small pipeline with a loop."""
    folder = tmp_path_factory.mktemp("loops")
    device = DeviceOptions(host_ops=(finite,))
    return {
        rows: partial(load_bucket, Bundle.open(make_loop_bucket(folder / str(rows), rows)), device)
        for rows in (1, 4)
    }
