"""Machines and their instruction sets, in order: which level a CPU reaches.

x86-64: the micro-architecture levels of the System V ABI for x86-64 (chapter "Low-level system
information"). Arm: versions of the A-profile architecture, each by features that it makes mandatory
and Linux names (Documentation/arch/arm64/elf_hwcaps.rst); ``armv9-a`` is told by SVE2.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["LEVELS", "canonical_machine", "level_of", "machine_of", "reaches"]

#: Machine -> (level, the flags in ``/proc/cpuinfo`` that it adds), the lowest first.
_LADDERS: dict[str, tuple[tuple[str, str], ...]] = {
    "x86_64": (
        ("x86-64", ""),
        ("x86-64-v2", "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"),
        ("x86-64-v3", "abm avx avx2 bmi1 bmi2 f16c fma movbe xsave"),
        ("x86-64-v4", "avx512bw avx512cd avx512dq avx512f avx512vl"),
    ),
    "aarch64": (
        ("armv8-a", ""),
        ("armv8.1-a", "asimdrdm atomics"),
        ("armv8.2-a", "dcpop"),
        ("armv8.4-a", "asimddp dit flagm ilrcpc uscat"),
        ("armv9-a", "sve2"),
    ),
}

_ALIASES = {"AMD64": "x86_64", "amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}

#: Every level that is known.
LEVELS = tuple(level for ladder in _LADDERS.values() for level, _ in ladder)


def canonical_machine(name: str) -> str:
    """One name for each kind of machine: ``x86_64`` for ``AMD64``, ``aarch64`` for ``arm64``."""
    return _ALIASES.get(name, name)


def level_of(machine: str, flags: Iterable[str]) -> str:
    """The highest level of a machine whose flags, and those of all below it, are there.

    Returns:
        a level; empty for a machine whose levels are not known.
    """
    found, have = "", set(flags)
    for level, needed in _LADDERS.get(canonical_machine(machine), ()):
        if not have >= set(needed.split()):
            break
        found = level
    return found


def machine_of(level: str) -> str:
    """The machine that has a level; empty for one that is not known."""
    for machine, ladder in _LADDERS.items():
        if level in dict(ladder):
            return machine
    return ""


def reaches(level: str, wanted: str) -> bool:
    """Whether a level is ``wanted`` or above it, on the same machine."""
    machine = machine_of(level)
    if not machine or machine != machine_of(wanted):
        return False
    order = [name for name, _ in _LADDERS[machine]]
    return order.index(level) >= order.index(wanted)
