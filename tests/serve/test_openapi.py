"""Requests that are made up from the OpenAPI document: answered as it says, and never by a 500."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from tests.serve.servers import Served


@pytest.fixture(scope="session")
def document(server: Served) -> Any:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    # Not about what is wanted: a request that is refused by length or unit is fine.
    return schema


SCHEMA = schemathesis.pytest.from_fixture("document")
QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much]


@SCHEMA.parametrize()
@settings(max_examples=4, deadline=None, suppress_health_check=QUIET)
def test_requests_made_up_from_the_document(case: Any) -> None:
    case.call_and_validate()
