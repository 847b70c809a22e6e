"""Failures of compilers that are kept: an error as plain data, and the error made of it again.

The error is as it was when it was first met: its class, and so what is done about it, what it says,
its advice. That it is known is a note beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

from partitioner.artifacts.faults import damaged
from partitioner.capture.sources import portable
from partitioner.errors import CompileError, ResourceError

__all__ = ["Failure", "note_of", "revived"]

#: The errors of compilers, by name.
_KINDS: dict[str, type[CompileError]] = {
    kind.__name__: kind for kind in (CompileError, ResourceError)
}

_NOTE = "this is known from the compile cache; without --cache-failures it is tried again"


@dataclass(frozen=True)
class Failure:
    """What an entry of a failure says.

    Attributes:
        kind: the class of the error.
        what, where, advice: of the error, where it is portable.
        cause: what it was raised from, as text; empty for nothing.
    """

    kind: str
    what: str
    where: str
    advice: str | None
    cause: str


class _KnownCauseError(Exception):
    """What a failure was raised from when it was first met, as text."""


def note_of(error: CompileError) -> Failure:
    """What is kept of a failure; a class that is derived elsewhere counts as the nearest one."""
    kind = next(base.__name__ for base in type(error).__mro__ if base in _KINDS.values())
    cause = error.__cause__
    told = "" if cause is None else f"{type(cause).__name__}: {cause}"
    return Failure(kind, error.what, portable(error.where or ""), error.advice, told)


def revived(failure: Failure, segment: str) -> CompileError:
    """The error, with its cause, and a note that it is known.

    Args:
        segment: that it is of, for the message.

    Raises:
        BundleError: it is of no class of error that compilers raise.
    """
    kind = _KINDS.get(failure.kind)
    if kind is None:
        raise damaged(f"an entry of the compile cache is an error {failure.kind!r}", segment)
    # ``what`` is as it was: the bundle's report may hold it, and is the same without the cache.
    error = kind(failure.what, where=failure.where or None, advice=failure.advice)
    error.__cause__ = _KnownCauseError(failure.cause) if failure.cause else None
    error.add_note(_NOTE)
    return error
