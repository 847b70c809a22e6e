"""What a request says beside its inputs: seed, time, schedule."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, cast

from partitioner.runtime.seeds import Seeds
from partitioner.serve.failures import ProtocolError
from partitioner.serve.options import LONGEST
from partitioner.serve.service import ModelService

__all__ = ["Controls", "controls_of", "option_names", "time_limit"]

#: Drawn seeds are numbers that JavaScript can hold, for its numbers are floats of 53 bits.
_SEED_BITS = 53


@dataclass(frozen=True)
class Controls:
    """How a request is to be run.

    Args:
        seed: drawn where none was given, so that the answer can name it; None for a model that
            serves several rows, each with a seed of its own.
        timeout: seconds; None for any time.
        options: that choose a schedule.
    """

    seed: Seeds
    timeout: float | None
    options: dict[str, Any]


def option_names(service: ModelService) -> list[str]:
    """Names of the options that choose a schedule."""
    return list(dict.fromkeys(name for variant in service.variants for name in variant))


def controls_of(
    service: ModelService, given: Mapping[str, Any], timeout: float | None, known: Collection[str]
) -> Controls:
    """Seed and options out of what a request gives.

    Args:
        given: by name.
        timeout: seconds, checked already.
        known: names in ``given`` that others read.

    Raises:
        ProtocolError: a name that nothing has; a seed that is none.
    """
    options = option_names(service)
    unknown = [name for name in given if name not in ("seed", *options, *known)]
    if unknown:
        names = ", ".join(dict.fromkeys(("seed", *options, *known)))
        raise ProtocolError(f"unknown parameter {unknown[0]!r}", advice=f"there is {names}")
    chosen = {name: given[name] for name in options if name in given}
    return Controls(_seed(service, given.get("seed")), timeout, chosen)


def time_limit(time: object, most: float | None, unit: float = 1.0) -> float | None:
    """The time that a request has, in seconds: what it asks for, up to what the server allows.

    Args:
        time: what it asks for, in ``unit`` seconds; None for nothing.
        most: seconds that the server allows; None for any.

    Raises:
        ProtocolError: not a time.
    """
    if time is None:
        return most
    if isinstance(time, bool) or not isinstance(time, int | float):
        raise ProtocolError("timeout must be a number")
    if not time > 0:
        raise ProtocolError("timeout must be more than 0")
    return min(time * unit, most or LONGEST)


def _seed(service: ModelService, seed: Any) -> Seeds:
    if seed is not None:
        # JSON knows numbers only: 7.0 is 7. An integer of more than 64 bits was read as the nearest
        # float, and would be another seed. What is no seed is for the runtime to refuse.
        exact = isinstance(seed, float) and seed.is_integer() and abs(seed) <= 2**_SEED_BITS
        return int(seed) if exact else cast(Seeds, seed)
    if any("batch" in spec.tensor.shape for spec in service.inputs):
        return None
    return secrets.randbits(_SEED_BITS)
