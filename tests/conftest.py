"""What holds for all tests: how much of the machine each process takes."""

from __future__ import annotations

import gc
import os

import pytest

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
