"""For all tests: no build finds what another build, or the developer's own, has compiled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _no_compile_cache() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARTITIONER_COMPILE_CACHE", "off")
        yield
