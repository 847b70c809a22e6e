"""Numbers for people. Imports nothing."""

from __future__ import annotations

__all__ = ["count_text", "money_text", "seconds_text", "share_text", "size_text"]


def size_text(count: float) -> str:
    """``4.2 MiB``."""
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if abs(size) < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} GiB"


def count_text(count: float) -> str:
    """``1.234 G``."""
    size = float(count)
    for unit in ("", " k", " M", " G"):
        if abs(size) < 1000:
            return f"{size:.4g}{unit}"
        size /= 1000
    return f"{size:.4g} T"


def seconds_text(seconds: float) -> str:
    """``1.2 ms``."""
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "us")):
        if abs(seconds) * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns" if seconds else "0 s"


def share_text(share: float) -> str:
    """``12 %``."""
    return f"{share * 100:.3g} %"


def money_text(amount: float, currency: str) -> str:
    """``0.24 USD``."""
    return f"{amount:.4g} {currency}"
