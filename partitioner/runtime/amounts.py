"""Amounts of memory, as people write them and read them."""

from __future__ import annotations

import re

from partitioner.errors import UsageError

__all__ = ["amount", "parse_amount"]

_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}

_AMOUNT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")


def parse_amount(given: str | int) -> int:
    """Bytes of ``4GiB``, ``1.5 GB``, ``512MiB`` or a number of bytes.

    Raises:
        UsageError: it is none of these, or less than a byte.
    """
    match = _AMOUNT.fullmatch(given) if isinstance(given, str) else None
    unit = _UNITS.get(match[2].lower()) if match else None
    nbytes = int(float(match[1]) * unit) if match and unit else given
    if not isinstance(nbytes, int) or isinstance(nbytes, bool) or nbytes < 1:
        raise UsageError(
            f"{given!r} is no amount of memory", advice="give bytes, or a text like '4GiB'"
        )
    return nbytes


def amount(nbytes: int) -> str:
    """Bytes for people: ``3.42 GiB``."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if nbytes >= size:
            return f"{nbytes / size:.3g} {unit}"
    return f"{nbytes} bytes"
