"""A target with figures: an accelerator, preferred, and the host."""

from __future__ import annotations

from partitioner.targets import Device, Target

__all__ = ["ACCELERATED", "PAIR"]

_FAR = Device(
    "far", ("first",), 1, 1, 2**34, 1e11, {"float32": 1e13}, 1e12, {"first": 1e-5}, 1e10, 1e-5
)
_CPU = Device("cpu", ("second",), 2, 1, 2**34, 1e10, {"float32": 1e11}, 1e11, {"second": 1e-6})

#: ``first`` on a device of its own, ``second`` on the host.
ACCELERATED = Target(
    "far", ("first", "second", "host"), 1e-4, 1e-6, (), "for tests", devices=(_FAR, _CPU)
)

_BOTH = Device(
    "cpu",
    ("first", "second", "host"),
    2,
    1,
    2**34,
    1e10,
    {"float32": 1e11},
    1e11,
    {"first": 1e-5, "second": 1e-5},
)

#: Two backends on the host, equal but for the order in which they are named.
PAIR = Target("pair", ("first", "second", "host"), 1e-4, 1e-6, (), "for tests", devices=(_BOTH,))
