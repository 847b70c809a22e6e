"""Index tensors as movements: which reshape, slices and permutation gather the same elements.

An index tensor gives, for each coordinate of the result, a position in the flattened source. Where
that position is a sum of terms, one for each dimension of the result, and each term counts in mixed
radix (``2 * n * (i // 2) + (i % 2)``, say), the source can be viewed with one axis for each digit;
then a permutation of axes does what the gather does.

NumPy only; positions are int64.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Movement", "find_movement"]

Positions = npt.NDArray[np.int64]

#: How many ways to place windows on their digits are tried.
_TRIES = 64


@dataclass(frozen=True)
class Movement:
    """What to do with the flattened source, in this order.

    Attributes:
        begin: take the elements from here, as many as the view has.
        view: reshape to these axes.
        starts, sizes: take so many of each axis from there; an axis of size 1 that no digit of the
            result counts is among them.
        order: permute the axes.
        expanded: insert axes of size 1 where this has more, and expand to it (None where nothing is
            repeated): pairs of (place, size) in the permuted order.
        merged: reshape to these, one for each dimension of the result.
        windows: take from there to there of each dimension; None where all is taken.
    """

    begin: int
    view: tuple[int, ...]
    starts: tuple[int, ...]
    sizes: tuple[int, ...]
    order: tuple[int, ...]
    expanded: tuple[tuple[int, int], ...]
    merged: tuple[int, ...]
    windows: tuple[tuple[int, int] | None, ...]

    def apply(self, source: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Do it; the result has the shape of the index tensor."""
        taken = tuple(slice(a, a + n) for a, n in zip(self.starts, self.sizes, strict=True))
        viewed = source.reshape(-1)[self.begin : self.begin + math.prod(self.view)]
        moved = viewed.reshape(self.view)[taken].transpose(self.order)
        for place, size in self.expanded:
            moved = np.repeat(np.expand_dims(moved, place), size, axis=place)
        moved = moved.reshape(self.merged)
        return moved[tuple(slice(*w) if w else slice(None) for w in self.windows)]


def find_movement(positions: Positions, size: int) -> Movement | None:
    """The movement that gathers ``positions`` of a source of ``size`` elements.

    Returns:
        a movement that was run and found to give exactly these positions; None if there is none,
        or none was found.
    """
    if positions.size == 0 or size == 0:
        return None
    terms = _terms(positions)
    if terms is None:
        return None
    start = int(positions.flat[0])
    choices = [list(_digits(term)) for term in terms]
    numbered = np.arange(size, dtype=np.int64)
    for combination in itertools.islice(itertools.product(*choices), _TRIES):
        movement = _assemble(start, combination, size)
        if movement is not None and np.array_equal(movement.apply(numbered), positions):
            return movement
    return None


def _terms(positions: Positions) -> list[Positions] | None:
    """Each dimension's term of the sum, starting with 0; None if positions are no such sum."""
    start = positions.flat[0]
    terms: list[Positions] = []
    rest = positions - start
    for axis in range(positions.ndim):
        place: list[Any] = [0] * positions.ndim
        place[axis] = slice(None)
        term = rest[tuple(place)]
        terms.append(term)
    total = np.zeros((1,) * positions.ndim, dtype=np.int64)
    for axis, term in enumerate(terms):
        shape = [1] * positions.ndim
        shape[axis] = -1
        total = total + term.reshape(shape)
    return terms if np.array_equal(np.broadcast_to(total, rest.shape), rest) else None


# --- one dimension ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Digits:
    """A term as digits, the slowest first, seen through a window.

    Attributes:
        digits: (stride, extent) each.
        before: how many counts come before the window.
        length: of the window.
        offset: of the first count, from that of the window.
    """

    digits: tuple[tuple[int, int], ...]
    before: int
    length: int
    offset: int


def _digits(term: Positions) -> Iterator[_Digits]:
    """Ways to count a term in mixed radix, the plainest first."""
    length = len(term)
    plain = _plain_digits(term)
    if plain is not None:
        yield _Digits(plain, 0, length, 0)
    period = _period(term)
    if period is None:
        return
    step = int(term[period] - term[0])
    for before in range(1 if plain is not None else 0, period):
        first = _block(term, period, step, before)
        inner = _plain_digits(first - first[0])
        if inner is not None:
            blocks = -(-(before + length) // period)
            yield _Digits(((step, blocks), *inner), before, length, int(first[0] - term[0]))


def _plain_digits(term: Positions) -> tuple[tuple[int, int], ...] | None:
    """The digits of a term that counts whole blocks only."""
    if len(term) == 1:
        return ()
    if _is_even(term):
        return ((int(term[1] - term[0]), len(term)),)
    period = _period(term)
    if period is None or len(term) % period:
        return None
    inner = _plain_digits(term[:period])
    if inner is None:
        return None
    return ((int(term[period] - term[0]), len(term) // period), *inner)


def _is_even(term: Positions) -> bool:
    return bool((np.diff(term) == term[1] - term[0]).all())


def _period(term: Positions) -> int | None:
    """The shortest shift after which the term is the same but for a constant."""
    # Two whole periods must be seen; one alone would prove nothing.
    for period in range(2, len(term) // 2 + 1):
        shifted = term[period:] - term[:-period]
        if bool((shifted == shifted[0]).all()):
            return period
    return None


def _block(term: Positions, period: int, step: int, before: int) -> Positions:
    """The first whole block, if so many counts come before the window."""
    counts = np.arange(period) - before
    # What the window does not show of the first block is taken from the second.
    return np.where(counts < 0, term[counts + period] - step, term[counts])


# --- all dimensions -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Axis:
    """An axis of the viewed source: its length, and the part of it that is taken."""

    length: int
    start: int
    size: int


def _assemble(start: int, terms: Sequence[_Digits], size: int) -> Movement | None:
    counted = [
        (stride, extent, (dim, place))
        for dim, term in enumerate(terms)
        for place, (stride, extent) in enumerate(term.digits)
    ]
    # A digit that counts to one, or that repeats its source, needs no axis of the source.
    sourced = sorted((d for d in counted if d[0] != 0 and d[1] > 1), key=lambda d: -d[0])
    offset = start + sum(term.offset for term in terms)
    begin, axes = _axes([(stride, extent) for stride, extent, _ in sourced], offset, size)
    if axes is None:
        return None
    order = [index for index, _ in sorted(enumerate(sourced), key=lambda item: item[1][2])]
    # Axes that no digit counts go to the front; they have one element.
    rest = list(range(len(sourced), len(axes)))
    expanded, place = list[tuple[int, int]](), len(rest)
    for stride, extent, _ in counted:
        if stride != 0 and extent > 1:
            place += 1
        elif extent > 1:
            expanded.append((place, extent))
            place += 1
    merged = tuple(math.prod(n for _, n in term.digits) for term in terms)
    return Movement(
        begin=begin,
        view=tuple(axis.length for axis in axes),
        starts=tuple(axis.start for axis in axes),
        sizes=tuple(axis.size for axis in axes),
        order=(*rest, *order),
        expanded=tuple(expanded),
        merged=merged,
        windows=tuple(
            None if term.length == whole else (term.before, term.before + term.length)
            for term, whole in zip(terms, merged, strict=True)
        ),
    )


def _axes(
    digits: Sequence[tuple[int, int]], offset: int, size: int
) -> tuple[int, list[_Axis] | None]:
    """Where in the source to begin, and its axes from there: one a digit, in falling strides."""
    if any(stride <= 0 for stride, _ in digits):
        return 0, None
    whole = _nest(digits, offset, size)
    if whole is not None or not digits:
        return 0, whole
    # A part of the source may nest where the whole does not: so many channels of a group, say.
    stride, extent = digits[0]
    for begin in (offset - offset % stride for stride in (*(s for s, _ in digits), 1)):
        if begin + stride * extent <= size:
            axes = _nest(digits, offset - begin, stride * extent)
            if axes is not None:
                return begin, axes
    return 0, None


def _nest(digits: Sequence[tuple[int, int]], offset: int, size: int) -> list[_Axis] | None:
    """Axes of ``size`` elements, each digit's within one step of the digit before it."""
    axes: list[_Axis] = []
    above = size
    for stride, extent in digits:
        if above % stride:
            return None
        first, offset = divmod(offset, stride)
        if first + extent > above // stride:
            return None
        axes.append(_Axis(above // stride, first, extent))
        above = stride
    if above > 1:
        # Below the last digit nothing counts: one element of this axis is taken.
        axes.append(_Axis(above, offset, 1))
    return axes
