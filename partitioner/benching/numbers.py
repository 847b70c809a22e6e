"""Figures for people."""

from __future__ import annotations

__all__ = ["number"]


def number(value: float) -> str:
    """Four digits that count, and never an exponent: ``0.03286``, ``12.5``, ``3,364``."""
    if value == 0:
        return "0"
    digits = max(0, 3 - _magnitude(value))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if digits else text


def _magnitude(value: float) -> int:
    """The power of ten of the first digit."""
    return int(f"{value:e}".partition("e")[2])
