"""Limits that cannot be meant are refused before anything is served."""

from __future__ import annotations

import math
from typing import Any

import pytest

from partitioner.errors import UsageError
from partitioner.serve.options import ServeOptions
from partitioner.serve.server import ListenOptions
from tests.cli.verbs import partition


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 0, -1, 1e300])
@pytest.mark.parametrize(
    "name", ["max_body", "max_requests", "max_pixels", "timeout", "read_timeout"]
)
def test_limits_of_requests(name: str, value: float) -> None:
    given: dict[str, Any] = {name: value}
    with pytest.raises(UsageError, match=f"{name} must be more than 0 and at most"):
        ServeOptions(**given)


@pytest.mark.parametrize("value", [math.inf, math.nan, -1, 1e300])
@pytest.mark.parametrize("name", ["drain_delay", "drain_limit"])
def test_seconds_of_the_end(name: str, value: float) -> None:
    given: dict[str, Any] = {name: value}
    with pytest.raises(UsageError, match=f"{name} must be from"):
        ListenOptions(**given)


@pytest.mark.parametrize("value", ["inf", "nan", "1e305", "-1"])
def test_bodies_of_sizes_that_are_none(value: str) -> None:
    done = partition("serve", "absent.bundle", "--max-body", value)
    assert 2 == done.returncode
    assert "max" in done.stderr
    assert "Traceback" not in done.stderr
