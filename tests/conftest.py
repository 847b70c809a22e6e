"""What holds for all tests: how much of the machine each process takes, and no compile cache."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest

from partitioner.backends.neuron.sdk import find_kind
from tests.rayclusters import cluster

__all__ = ["cluster"]

# Models are small, and pytest has a process for every core: second threads would only wait for the
# first, spinning. Before torch is imported, and for the processes that tests start.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    # The modules of torch and its kind are a million objects that stay: not looked through again at
    # each full collection.
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _no_compile_cache() -> Iterator[None]:
    # No build finds what another one, or the developer's own, has compiled.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARTITIONER_COMPILE_CACHE", "off")
        yield


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if find_kind() == "xla":
        return
    absent = [item for item in items if item.get_closest_marker("neuron")]
    if absent:
        config.hook.pytest_deselected(items=absent)
        items[:] = [item for item in items if item not in set(absent)]


@pytest.fixture(scope="module", params=["standin", pytest.param("real", marks=pytest.mark.neuron)])
def sdk(request: pytest.FixtureRequest) -> str:
    """Neuron's SDK, or the module's own stand-in for it."""
    if request.param == "standin":
        request.getfixturevalue("standin")
    return request.param
