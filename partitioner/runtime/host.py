"""What this host has, as far as bundles may ask for it."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from partitioner.isa import canonical_machine, level_of

__all__ = ["Host", "cpu_flags", "installed_version", "this_host"]

#: Accelerator -> the file by which its driver shows the first one.
_DEVICES = {"neuron": "dev/neuron0"}


@dataclass(frozen=True)
class Host:
    """A host, to be compared with a bundle's requirements.

    Attributes:
        machine: ``x86_64``, ``aarch64``, or what ``platform.machine()`` says.
        instructions: the highest level of :mod:`partitioner.isa`; empty if none is known.
        devices: names of the accelerators that are there.
        version: gives a distribution's version, None where it is not installed.
    """

    machine: str
    instructions: str
    devices: frozenset[str]
    version: Callable[[str], str | None]


@cache
def this_host(root: Path = Path("/")) -> Host:
    """The host that this process runs on.

    Args:
        root: where ``proc`` and ``dev`` are.
    """
    machine = canonical_machine(platform.machine())
    devices = frozenset(name for name, file in _DEVICES.items() if (root / file).exists())
    level = level_of(machine, cpu_flags(root / "proc/cpuinfo"))
    return Host(machine, level, devices, installed_version)


def installed_version(name: str) -> str | None:
    """The version of a distribution, or of the one that brings a module of that name.

    ``onnxruntime`` also comes as ``onnxruntime-gpu`` and others.
    """
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        owners = importlib.metadata.packages_distributions().get(name, [])
        return importlib.metadata.version(owners[0]) if owners else None


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """Flags of the first CPU; none where the file is missing, which is the lowest level."""
    try:
        text = cpuinfo.read_text()
    except OSError:
        return []
    for line in text.splitlines():
        key, _, flags = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return flags.split()
    return []
