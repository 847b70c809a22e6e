"""What is missing here to build for a target, or to run on it. Imports no backend's libraries."""

from __future__ import annotations

from collections.abc import Callable

from partitioner.backends import BackendInfo, backend_names, find_backend
from partitioner.targets.choice import with_backends
from partitioner.targets.facts import Target

__all__ = [
    "measurable",
    "missing_backends",
    "missing_to_build",
    "missing_to_run",
    "unable_backends",
]


def missing_backends(target: Target) -> tuple[str, ...]:
    """Backends of a target that are not installed; a plan gives their nodes to the others."""
    installed = backend_names()
    return tuple(name for name in target.backends if name not in installed)


def missing_to_build(target: Target, *, deferred: bool = False) -> str:
    """Why a target cannot be built for here: of one of its devices, no backend can compile.

    Args:
        deferred: whether a last step may be left to another machine, by backends that can.

    Returns:
        ``the backend 'neuron', whose compiler needs torch_neuronx``; empty if it can.
    """
    return _missing(target, _why_not_begun if deferred else _why_not_compiled)


def unable_backends(target: Target, *, deferred: bool = False) -> dict[str, str]:
    """The backends of a target that are planned with and cannot compile here, with the reason.

    What a build gives must not depend on what happens to be installed, so others do not take their
    part, as long as nobody says so.

    Args:
        deferred: as of :func:`missing_to_build`.
    """
    why_not = _why_not_begun if deferred else _why_not_compiled
    known = [find_backend(n) for n in target.backends if n in backend_names() and n != "host"]
    return {info.name: reason for info in known if (reason := why_not(info))}


def missing_to_run(target: Target) -> str:
    """The same for running: of one of its devices, no backend has an executor here."""
    return _missing(target, _why_not_run)


def measurable(target: Target) -> Target:
    """The target with all backends of its devices that can compile and run here.

    Its own come first, in their order: where measurements leave a choice, it stays as it was.
    """
    installed = backend_names()
    others = [
        name
        for device in target.devices
        for name in device.backends
        if name in installed
        and not _why_not_compiled(find_backend(name))
        and not _why_not_run(find_backend(name))
    ]
    return with_backends(target, list(dict.fromkeys([*target.backends, *others])))


def _missing(target: Target, why_not: Callable[[BackendInfo], str]) -> str:
    absent = missing_backends(target)
    for device in target.devices:
        names = [name for name in target.backends if name in device.backends]
        reasons = [
            "which is not installed" if name in absent else why_not(find_backend(name))
            for name in names
        ]
        if names and all(reasons):
            return f"the backend {names[0]!r}, {reasons[0]}"
    return ""


def _why_not_compiled(info: BackendInfo) -> str:
    if not info.compiler:
        return "which this version plans for and does not compile for yet"
    lacking = info.missing_to_build()
    return f"whose compiler needs {lacking[0]}" if lacking else ""


def _why_not_begun(info: BackendInfo) -> str:
    return "" if info.defers else _why_not_compiled(info)


def _why_not_run(info: BackendInfo) -> str:
    if not info.executor:
        return "whose artifacts this version does not run"
    lacking = info.missing()
    return f"which needs {lacking[0]}" if lacking else ""
