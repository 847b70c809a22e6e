"""One hierarchy of errors. An error says what happened, where, and what to do.

Every class carries the exit code that the command line returns for it, so that a script can tell
a model that cannot be captured from a bundle that was tampered with. The table of codes is in
``docs/command-line.md``.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "BackendError",
    "BundleError",
    "CacheError",
    "CaptureError",
    "CompileError",
    "ConflictError",
    "DeadlineError",
    "IncompatibleBundleError",
    "InputError",
    "InsufficientMemoryError",
    "MissingDependencyError",
    "ModelError",
    "NotInStoreError",
    "OutputError",
    "OverloadedError",
    "ParityError",
    "PartitionerError",
    "PassError",
    "PlacementError",
    "ProgramError",
    "ResourceError",
    "SignatureError",
    "StoreError",
    "UsageError",
]


class PartitionerError(Exception):
    """Base of all errors that this project raises on purpose.

    Args:
        what: one sentence on what happened.
        where: file and line of the user's code, a path in a bundle, a segment; whatever leads
            the reader to the place.
        advice: what to do about it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, where: str | None = None, advice: str | None = None) -> None:
        super().__init__(what, where, advice)
        self.what = what
        self.where = where
        self.advice = advice

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  at: {self.where}")
        if self.advice:
            lines.append(f"  to do: {self.advice}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.where, self.advice))


def _rebuild(
    kind: type[PartitionerError], what: str, where: str | None, advice: str | None
) -> PartitionerError:
    return kind(what, where=where, advice=advice)


class UsageError(PartitionerError):
    """An option or argument that cannot be meant: unknown target, unknown option name."""

    exit_code = 2


class ModelError(PartitionerError):
    """The model file or object cannot be loaded, or does not keep the contract of model.py."""

    exit_code = 3


class CaptureError(PartitionerError):
    """The pipeline cannot be captured: control flow on an input-dependent value, and the like."""

    exit_code = 4


class ProgramError(PartitionerError):
    """A program is not well formed: dangling use, undeclared shape, fake tensor as constant."""

    exit_code = 5


class PassError(ProgramError):
    """A pass broke its contract."""


class PlacementError(PartitionerError):
    """A node that no backend of the target takes."""

    exit_code = 6


class BackendError(PartitionerError):
    """A backend failed at run time."""

    exit_code = 7


class CompileError(BackendError):
    """A backend could not compile a segment: refusal, crash, time limit, memory."""


class ResourceError(CompileError):
    """A compiler met a limit of time or memory, the caller's or the machine's: with more, it may
    well succeed."""


class ParityError(PartitionerError):
    """The bundle's numbers are not those of the eager pipeline."""

    exit_code = 8


class BundleError(PartitionerError):
    """The bundle is damaged or hostile: wrong digest, missing blob, malformed manifest."""

    exit_code = 9


class IncompatibleBundleError(BundleError):
    """The bundle is sound, but this version or this host cannot run it."""

    exit_code = 10


class InputError(PartitionerError):
    """A request with a missing or unknown input, a wrong shape or dtype."""

    exit_code = 11


class OutputError(PartitionerError):
    """The output cannot be written: it exists, no space, no permission."""

    exit_code = 12


class MissingDependencyError(PartitionerError):
    """A library that this step needs is not installed."""

    exit_code = 13


class CacheError(PartitionerError):
    """What the compile cache holds is not what the compiler gives."""

    exit_code = 15


class StoreError(PartitionerError):
    """A store cannot be reached, refuses, or holds something else than it should."""

    exit_code = 20


class NotInStoreError(StoreError):
    """The store has no such bundle, version, tag or blob."""

    exit_code = 21


class ConflictError(StoreError):
    """Another writer was first: a tag that moved meanwhile, a version that is taken."""

    exit_code = 22


class SignatureError(PartitionerError):
    """A signature is required, and there is none by a key that is trusted."""

    exit_code = 23


class OverloadedError(PartitionerError):
    """Too many requests wait already; nothing of this one was begun."""

    exit_code = 30


class DeadlineError(PartitionerError):
    """A request was not done in the time that its caller gave it."""

    exit_code = 31


class InsufficientMemoryError(PartitionerError):
    """Loading or running takes more memory than the caller allows."""

    exit_code = 32
