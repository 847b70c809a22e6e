"""Errors of what was read: one advice for all that a bundle should not contain."""

from __future__ import annotations

from partitioner.errors import BundleError

__all__ = ["ADVICE", "damaged", "shown"]

ADVICE = (
    "the bundle is damaged, was changed, or was not made by partitioner; fetch or build it anew"
)


def damaged(what: str, where: object = None) -> BundleError:
    """The error for a bundle that is not as it should be."""
    return BundleError(what, where=None if where is None else str(where), advice=ADVICE)


def shown(value: object, limit: int = 60) -> str:
    """A value of an untrusted document for a message: short, and safe to print."""
    if isinstance(value, str):
        text = ascii(value[: limit + 1])
        return text if len(value) <= limit else f"{value[:limit]!a}..."
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)[:limit]
