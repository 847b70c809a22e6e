"""The seeds of a call: one, or one for each row."""

from __future__ import annotations

import operator
import secrets
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from partitioner.errors import InputError

__all__ = ["Seed", "Seeds", "is_several", "one_seed", "parity_seeds", "seeds_of"]

#: Any 64-bit integer; None for a fresh one.
Seed = int | None

#: One seed for all rows, or one for each.
Seeds = Seed | Sequence[int]


def is_several(seed: Any) -> bool:
    """Whether it is a list of seeds."""
    if isinstance(seed, np.ndarray):
        return cast("np.ndarray[Any, Any]", seed).ndim > 0
    return isinstance(seed, Sequence) and not isinstance(seed, str | bytes)


def one_seed(seed: Any) -> int:
    """A seed as a number; a fresh one for None.

    Raises:
        InputError: not a 64-bit integer.
    """
    if seed is None:
        return secrets.randbits(63)
    try:
        number = operator.index(seed)
    except TypeError:
        number = None
    if number is None or isinstance(seed, bool) or not -(2**63) <= number < 2**64:
        advice = "a list of seeds is for bundles that were built with --batch"
        several = is_several(seed)
        raise InputError(
            f"the seed is a 64-bit integer, not {seed!r}", advice=advice if several else ""
        )
    return number


def seeds_of(seed: Any, rows: int) -> list[int]:
    """A seed for each row: all have the one that is given, or each its own.

    Raises:
        InputError: not 64-bit integers, or not as many as rows.
    """
    if not is_several(seed):
        return [one_seed(seed) for _ in range(rows)]
    seeds = [one_seed(each) for each in seed]
    if len(seeds) != rows:
        raise InputError(
            f"{len(seeds)} seeds are given for {rows} rows", advice="give one for each"
        )
    return seeds


def parity_seeds(first: int, rows: int) -> list[int]:
    """The seeds of a parity sample: rows whose noise is the same would hide a mix-up."""
    return [first + row for row in range(rows)]
