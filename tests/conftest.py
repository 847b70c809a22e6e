"""Tests that need the real Neuron SDK are there only where it is."""

from __future__ import annotations

import pytest

from partitioner.backends.neuron.sdk import find_kind


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if find_kind() == "xla":
        return
    absent = [item for item in items if item.get_closest_marker("neuron")]
    if absent:
        config.hook.pytest_deselected(items=absent)
        items[:] = [item for item in items if item not in set(absent)]
