"""What a user decides about targets: their backends' order, several of them for one bundle."""

from __future__ import annotations

import difflib
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from partitioner.errors import PartitionerError, UsageError
from partitioner.targets.catalogue import find_target
from partitioner.targets.facts import Device, Target

__all__ = ["by_preference", "naming_target", "target_of", "targets_of", "with_backends"]

#: The device that is the machine itself.
_HOST = "cpu"


def target_of(target: str | Target, backends: Sequence[str] | None = None) -> Target:
    """The target of this name, if it is one, with these backends instead of its own, if any.

    Raises:
        UsageError: no such target, or it has no such backend.
    """
    found = find_target(target) if isinstance(target, str) else target
    return found if backends is None else with_backends(found, backends)


def targets_of(
    given: str | Target | Sequence[str | Target], backends: Sequence[str] | None = None
) -> tuple[Target, ...]:
    """The targets of these names, in the order in which a host that can run several prefers them.

    Raises:
        UsageError: none, one twice, or as :func:`target_of`.
    """
    every = [given] if isinstance(given, str | Target) else list(given)
    return by_preference([target_of(one, backends) for one in every])


def by_preference(targets: Sequence[Target]) -> tuple[Target, ...]:
    """Targets in the order in which a host that can run several of them should.

    Those with an accelerator come first, then those for certain CPUs, then those for any; among
    equals the order is the given one.

    Raises:
        UsageError: none, or one twice.
    """
    if not targets:
        raise UsageError("no target is given", advice="name one of `partition targets`")
    names = [target.name for target in targets]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"the target {twice!r} is given twice", advice="leave one out")
    return tuple(sorted(targets, key=_rank))


@contextmanager
def naming_target(name: str) -> Generator[None]:
    """Say in errors for which of several targets it was; nothing if ``name`` is empty."""
    try:
        yield
    except PartitionerError as error:
        if name:
            error.what = f"building for the target {name!r}: {error.what}"
            error.advice = f"{error.advice or 'see the log'}; or leave out --target {name}"
        raise


def _rank(target: Target) -> int:
    if any(device.name != _HOST for device in target.devices):
        return 0
    return 1 if target.machine or target.instructions else 2


def with_backends(target: Target, names: Sequence[str]) -> Target:
    """The target with these backends only, in this order of preference; host ops stay possible.

    Who is named first is preferred, so it loses the factor that would speak against it.

    Raises:
        UsageError: one is none of the target's, or is named twice.
    """
    possible = dict.fromkeys([*target.backends, *(b for d in target.devices for b in d.backends)])
    for name in names:
        if name not in possible:
            near = difflib.get_close_matches(name, possible, 1)
            raise UsageError(
                f"target {target.name!r} has no backend {name!r}",
                advice=f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(possible)}",
            )
        if names.count(name) > 1:
            raise UsageError(f"backend {name!r} is named twice", advice="name each once")
    ordered = (*(n for n in names if n != "host"), "host")
    devices = tuple(
        replace(device, time_factor=_agreeing(device, ordered)) for device in target.devices
    )
    return replace(target, backends=ordered, devices=devices)


def _agreeing(device: Device, names: Sequence[str]) -> dict[str, float]:
    """The factors of backends that are not named before one of the same device with less."""
    own = [name for name in names if name in device.backends and name != "host"]
    factors = [device.time_factor.get(name, 1.0) for name in own]
    return {
        name: factor
        for index, (name, factor) in enumerate(zip(own, factors, strict=True))
        if name in device.time_factor and factor <= min(factors[index:])
    }
