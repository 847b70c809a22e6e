"""Amounts of memory as texts."""

from __future__ import annotations

from typing import Any

import pytest

from partitioner.errors import UsageError
from partitioner.runtime.amounts import amount, parse_amount


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("4GiB", 4 * 2**30),
        ("1.5 GB", 1_500_000_000),
        (" 512mib ", 512 * 2**20),
        ("2KB", 2000),
        ("77", 77),
        (77, 77),
    ],
)
def test_read(given: str | int, expected: int) -> None:
    assert expected == parse_amount(given)


@pytest.mark.parametrize("given", ["", "GiB", "4 gigs", "-1GiB", "0", 0, -5, 1.5, True, None])
def test_refused(given: Any) -> None:
    with pytest.raises(UsageError, match="no amount of memory"):
        parse_amount(given)


def test_written() -> None:
    assert ["12 bytes", "1.5 KiB", "2 MiB", "3.42 GiB"] == [
        amount(n) for n in (12, 1536, 2 * 2**20, 3_672_197_000)
    ]
