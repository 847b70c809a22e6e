"""Targets: the hardware a bundle is built for, as one table.

A target names backends in order of preference. This table lists what can be built with the
backends of this version; a name of hardware whose backend is missing gets an error that says so.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from partitioner.errors import UsageError

__all__ = ["TARGETS", "Target", "all_targets", "find_target"]


@dataclass(frozen=True)
class Target:
    """One kind of hardware.

    Attributes:
        backends: in order of preference.
        relative, absolute: parity tolerances; see :class:`partitioner.artifacts.Tolerance`.
        machine: ``platform.machine()`` values it runs on; empty for any.
        note: for people.
    """

    name: str
    backends: tuple[str, ...]
    relative: float
    absolute: float
    machine: tuple[str, ...]
    note: str


#: float32 throughout. The tolerance is four digits: convolutions and products are summed in
#: another order than eager torch does it, which a loop of tens of steps amplifies.
TARGETS: dict[str, Target] = {
    "cpu": Target(
        "cpu", ("onnx", "host"), 1e-4, 1e-6, (), "any CPU, through ONNX Runtime, in float32"
    ),
}

#: Hardware known by name, and the backend that it needs and this version does not have.
_PLANNED = {
    "inf2": "neuron",
    "trn1": "neuron",
    "trn2": "neuron",
    "trn3": "neuron",
    "xeon": "openvino",
    "graviton": "graviton tuning",
}


def all_targets() -> tuple[Target, ...]:
    """Every target that can be built, by name."""
    return tuple(TARGETS[name] for name in sorted(TARGETS))


def find_target(name: str) -> Target:
    """The target of this name.

    Raises:
        UsageError: there is none, or its backend is not in this version.
    """
    found = TARGETS.get(name)
    if found is not None:
        return found
    missing = _PLANNED.get(name.split(".", maxsplit=1)[0])
    if missing is not None:
        raise UsageError(
            f"target {name!r} needs the backend {missing!r}, which this version does not have",
            advice="build for 'cpu', which runs on any CPU",
        )
    near = difflib.get_close_matches(name, [*TARGETS, *_PLANNED], 1)
    raise UsageError(
        f"there is no target {name!r}",
        advice=f"did you mean {near[0]!r}?" if near else f"targets: {', '.join(sorted(TARGETS))}",
    )
