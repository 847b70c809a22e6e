"""What a bundle requires of the hosts that run it, by target and artifacts (build time)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from partitioner.artifacts.manifest import Artifact, Requirement
from partitioner.backends import find_backend
from partitioner.isa import canonical_machine, machine_of
from partitioner.targets import Target

__all__ = ["requirements_of"]


def requirements_of(
    target: Target, artifacts: Mapping[str, Artifact], path_of: Callable[[str], Path]
) -> tuple[Requirement, ...]:
    """Machine and instructions that the target is for, devices and libraries that artifacts need.

    The machine is not firm: graphs of ONNX and OpenVINO run on any, with the same numbers within
    the tolerance; what was chosen and estimated for the target may be slow there.

    Args:
        artifacts: by segment.
        path_of: gives a blob's file by digest.
    """
    backends = dict.fromkeys(artifact.backend for artifact in artifacts.values())
    found = [*_meant_for(target)]
    for name in backends:
        device = next((d.name for d in target.devices if name in d.backends), "cpu")
        if device != "cpu":
            found.append(Requirement("device", device, reason=f"of the target {target.name}"))
    for name in backends:
        own = {a.graph for a in artifacts.values() if a.backend == name and a.graph}
        found += find_backend(name).required_by([path_of(digest) for digest in sorted(own)])
    return tuple(dict.fromkeys(found))


def _meant_for(target: Target) -> Iterator[Requirement]:
    reason = f"of the target {target.name}"
    machines = dict.fromkeys(canonical_machine(name) for name in target.machine)
    if machines:
        yield Requirement("machine", ",".join(machines), firm=False, reason=reason)
    if target.instructions:
        level = target.instructions
        yield Requirement("instructions", machine_of(level), level, firm=False, reason=reason)
