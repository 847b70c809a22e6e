"""Whether a host has what a bundle requires: ordered comparisons, each with a remedy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from partitioner.artifacts.manifest import Manifest, Requirement
from partitioner.backends import find_backend
from partitioner.errors import IncompatibleBundleError, MissingDependencyError, PartitionerError
from partitioner.isa import machine_of, reaches
from partitioner.runtime.host import Host

__all__ = ["Unmet", "requirement_text", "unmet"]

_ELSEWHERE = (
    "choose another variant of the bundle, or build for 'cpu', which any CPU runs; "
    "--variant target={target} runs this one all the same"
)
_NEWER = "install a newer partitioner, or build the bundle with this one"


@dataclass(frozen=True)
class Unmet:
    """Something that a bundle requires and a host lacks.

    Attributes:
        error: says what is required, what is here, and what to do.
        firm: whether nothing can be done about it but that; what is not firm is waived by who
            names the target.
    """

    error: PartitionerError
    firm: bool


def unmet(manifest: Manifest, host: Host) -> list[Unmet]:
    """All that a bundle requires and a host lacks; nothing is imported.

    Bundles of before schema 1.3 state nothing; that their backends can be run is seen all the same.
    """
    absent = list(_backends(manifest))
    found = [Unmet(error, firm=True) for error in absent]
    for requirement in manifest.requirements:
        error = _compare(requirement, manifest, host)
        # That a backend's library is not there is said once, by the backend.
        told = absent and isinstance(error, MissingDependencyError)
        if error is not None and not told:
            found.append(Unmet(error, requirement.firm))
    return found


def requirement_text(requirement: Requirement) -> str:
    """``onnxruntime >= 1.17 (opset 20)``."""
    bounds = [f">= {requirement.at_least}"] if requirement.at_least else []
    bounds += [f"< {requirement.below}"] if requirement.below else []
    kind = "" if requirement.kind == "library" else f"{requirement.kind} "
    reason = f" ({requirement.reason})" if requirement.reason else ""
    return f"{kind}{' '.join([requirement.name, ', '.join(bounds)]).strip()}{reason}"


def _backends(manifest: Manifest) -> Iterator[PartitionerError]:
    for name in dict.fromkeys(one.backend for one in manifest.artifacts.values()):
        try:
            find_backend(name).check_runnable()
        except PartitionerError as error:
            yield error


def _compare(requirement: Requirement, manifest: Manifest, host: Host) -> PartitionerError | None:
    name, elsewhere = requirement.name, _ELSEWHERE.format(target=manifest.target)
    match requirement.kind:
        case "library":
            return _library(requirement, host)
        case "machine":
            if host.machine in name.split(","):
                return None
            return _refused(requirement, f"this host is {host.machine}", elsewhere)
        case "instructions":
            # About one machine; on others it says nothing.
            if name != host.machine or reaches(host.instructions, requirement.at_least):
                return None
            if not machine_of(requirement.at_least):
                return _refused(requirement, "this version does not know what that is", _NEWER)
            here = f"this CPU has {host.instructions or 'none that is known'}"
            return _refused(requirement, here, elsewhere)
        case "device":
            if name in host.devices:
                return None
            advice = f"run it on a host with {name} devices and their driver, or build for 'cpu'"
            return _refused(requirement, "this host has none", advice)
        case _:
            return _refused(requirement, "this version does not know what that is", _NEWER)


def _library(requirement: Requirement, host: Host) -> PartitionerError | None:
    name = requirement.name
    bounds = [f">={requirement.at_least}"] if requirement.at_least else []
    bounds += [f"<{requirement.below}"] if requirement.below else []
    install = f"pip install '{name}{','.join(bounds)}'"
    version = host.version(name)
    if version is None:
        return MissingDependencyError(
            f"the bundle needs {requirement_text(requirement)}, which is not installed",
            advice=install,
        )
    low = not requirement.at_least or _release(version) >= _release(requirement.at_least)
    high = not requirement.below or _release(version) < _release(requirement.below)
    if low and high:
        return None
    advice = f"{install}, choose another variant of the bundle, or build it here"
    return _refused(requirement, f"{version} is installed", advice)


def _refused(requirement: Requirement, here: str, advice: str) -> IncompatibleBundleError:
    return IncompatibleBundleError(
        f"the bundle needs {requirement_text(requirement)}; {here}",
        where="$.requirements",
        advice=advice,
    )


def _release(version: str) -> tuple[int, ...]:
    """The numbers of a version, ``2026.4.1-22982-e213`` as (2026, 4, 1); zeros at the end do not
    count. What follows the release (``rc1``, ``.dev3``) is passed over."""
    match = re.match(r"[0-9]+(\.[0-9]+)*", version)
    numbers = [int(part) for part in match[0].split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
