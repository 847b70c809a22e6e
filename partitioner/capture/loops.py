"""Loop recovery: the longest repetition on the tape becomes a loop.

1. Every entry gets a symbol; entries with equal keys have equal symbols.
2. Candidate periods are the distances between occurrences of one symbol. For each, the runs in
   which symbol i equals symbol i + period are found in one pass over the tape.
3. A run gives trips. What the trips do to the same *operands* is compared next: at each position
   all trips must take the value of the same earlier position in the same trip or the same number
   of trips back, one and the same value from before the loop, or a constant. The longest stretch
   of trips for which that holds is the loop. Values from before the loop in the place of an
   earlier trip's are initial values.
4. The rest of the tape, before and after, is searched again.

Steps that do not fit (the first steps of a multistep sampler) stay as they are, so nothing is
lost when nothing is found. The cost is the number of candidate periods, a constant, times the
length of the tape.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from partitioner.capture.tape import Constant, Entry, Number, Operand, Value

__all__ = ["Back", "Fixed", "Outer", "Outers", "Repetition", "Source", "find_loops"]

#: How many periods are tried. Real samplers need the first few; the bound keeps it linear.
_PERIODS = 32

#: How many starts of a run are tried, those that carry least first.
_SHIFTS = 64

#: A repetition without a stage in it must come this often to be worth a loop.
_PLAIN_TRIPS = 4


@dataclass(frozen=True)
class Back:
    """The result ``item`` of position ``position``, ``trips`` trips back (0: the same trip)."""

    trips: int
    position: int
    item: int


@dataclass(frozen=True)
class Outer:
    """A value from before the loop, the same at each trip."""

    value: Value


@dataclass(frozen=True)
class Outers:
    """A value from before the loop, another one at each trip (a short loop's history)."""

    values: tuple[Value, ...]


@dataclass(frozen=True)
class Fixed:
    """A constant or number; ``varies``: another one at each trip."""

    varies: bool


Source = Back | Outer | Outers | Fixed


@dataclass(frozen=True)
class Repetition:
    """A loop on the tape: entries ``start`` to ``start + period * trips``.

    ``sources[p][k]`` says where operand ``k`` of position ``p`` comes from.
    """

    start: int
    period: int
    trips: int
    sources: tuple[tuple[Source, ...], ...]

    @property
    def end(self) -> int:
        return self.start + self.period * self.trips


def find_loops(entries: Sequence[Entry]) -> list[Repetition]:
    """The loops of a tape, in order, without overlap."""
    symbols = _symbols(entries)
    found: list[Repetition] = []
    pending = [(0, len(entries))]
    while pending:
        low, high = pending.pop()
        best = _longest(entries, symbols, low, high)
        if best is None:
            continue
        found.append(best)
        pending += [(low, best.start), (best.end, high)]
    return sorted(found, key=lambda r: r.start)


def _symbols(entries: Sequence[Entry]) -> npt.NDArray[np.int64]:
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(e.key, len(numbers)) for e in entries], dtype=np.int64)


def _longest(
    entries: Sequence[Entry], symbols: npt.NDArray[np.int64], low: int, high: int
) -> Repetition | None:
    candidates: list[tuple[int, int, int, int]] = []
    for period in _periods(entries, symbols[low:high]):
        for start, trips, slack in _runs(symbols[low:high], period):
            candidates.append((period * (trips - 1), low + start, period, slack))
    # Most entries saved first; among equals the shortest period, then the earliest.
    candidates.sort(key=lambda c: (-c[0], c[2], c[1]))
    best: Repetition | None = None
    for saved, start, period, slack in candidates:
        if best is not None and saved <= best.period * (best.trips - 1):
            break
        loop = _verified(entries, start, period, saved // period + 1, slack)
        if loop is not None and (
            best is None or loop.period * (loop.trips - 1) > best.period * (best.trips - 1)
        ):
            best = loop
    return best


def _periods(entries: Sequence[Entry], symbols: npt.NDArray[np.int64]) -> list[int]:
    """Distances between near occurrences of a symbol, the most frequent first."""
    votes: Counter[int] = Counter()
    order = np.argsort(symbols, kind="stable")
    for reach in (1, 2, 3, 4):
        if len(order) <= reach:
            break
        same = symbols[order[reach:]] == symbols[order[:-reach]]
        gaps = (order[reach:] - order[:-reach])[same]
        values, counts = np.unique(gaps, return_counts=True)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            votes[value] += count
    return [p for p, _ in sorted(votes.items(), key=lambda v: (-v[1] * v[0], v[0]))[:_PERIODS]]


def _runs(symbols: npt.NDArray[np.int64], period: int) -> list[tuple[int, int, int]]:
    """(start, trips, slack) of each stretch with this period; slack: by how much it may shift."""
    if period >= len(symbols):
        return []
    same = np.concatenate(([0], (symbols[period:] == symbols[:-period]).astype(np.int8), [0]))
    edges = np.flatnonzero(np.diff(same))
    runs: list[tuple[int, int, int]] = []
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        length = end - start + period
        if length >= 2 * period:
            runs.append((start, length // period, length % period))
    return runs


# --- operands -----------------------------------------------------------------------------------


def _verified(
    entries: Sequence[Entry], start: int, period: int, trips: int, slack: int
) -> Repetition | None:
    """The best loop of a run: longest, then with the least carried from step to step."""
    high = start + period * trips + slack
    start = _after_invariants(entries, start, high, period)
    trips, slack = (high - start) // period, (high - start) % period
    carried = [_crossing(entries, start + s, period, trips) for s in range(slack + 1)]
    if min(carried) == 0:
        # Rows of a batch, say, one after the other. A border through the middle of a row would
        # make a loop of them whose trips hand on half a row.
        return None
    shifts = sorted(range(slack + 1), key=lambda s: (carried[s], s))
    best: Repetition | None = None
    # The natural borders of the steps are the cheapest ones; a few tries reach them.
    for shift in shifts[:_SHIFTS]:
        loop = _consistent(entries, start + shift, period, trips)
        if loop is not None and (best is None or loop.trips > best.trips):
            best = loop
    return best


def _after_invariants(entries: Sequence[Entry], low: int, high: int, period: int) -> int:
    """Where a run may start so that what all its trips share was computed before it.

    The first step often computes what the others reuse (a view of the condition, say), and
    looks like the others otherwise.
    """
    floor = low
    for index in range(low + period, high):
        pairs = zip(entries[index].operands, entries[index - period].operands, strict=True)
        for mine, other in pairs:
            if isinstance(mine, Value) and mine == other and mine.entry < low + 2 * period:
                floor = max(floor, mine.entry + 1)
    return floor


def _crossing(entries: Sequence[Entry], start: int, period: int, trips: int) -> int:
    """How many values the middle border of the loop would carry."""
    border = start + period * (trips // 2)
    crossing: set[Value] = set()
    for entry in entries[border : border + period]:
        for operand in entry.operands:
            if isinstance(operand, Value) and start <= operand.entry < border:
                crossing.add(operand)
    return len(crossing)


def _consistent(entries: Sequence[Entry], start: int, period: int, trips: int) -> Repetition | None:
    while trips >= 2:
        # The last trip sees the farthest back; the middle one stands for the rest if it differs.
        stretches = [_stretch(entries, start, period, trips, k) for k in (trips - 1, trips // 2)]
        first, last = max(stretches, key=lambda s: s[1] - s[0])
        if first == 0 and last == trips - 1:
            break
        # Fewer trips: what was a trip is now before the loop, so compare anew.
        start, trips = start + period * first, last - first + 1
    if trips < 2:
        return None
    sources = tuple(_sources(entries, start, period, trips, position) for position in range(period))
    if not all(s is not None for s in sources):
        return None
    loop = Repetition(start, period, trips, tuple(s for s in sources if s is not None))
    return loop if _worthwhile(entries, loop) else None


def _stretch(
    entries: Sequence[Entry], start: int, period: int, trips: int, like: int
) -> tuple[int, int]:
    """First and last of the trips around ``like`` that take their operands as it does."""
    first = last = like
    while first > 0 and _fits(entries, start, period, first - 1, like):
        first -= 1
    while last + 1 < trips and _fits(entries, start, period, last + 1, like):
        last += 1
    return first, last


def _worthwhile(entries: Sequence[Entry], loop: Repetition) -> bool:
    carried = any(
        isinstance(source, Back) and source.trips > 0 for row in loop.sources for source in row
    )
    body = entries[loop.start : loop.start + loop.period]
    return carried and (loop.trips >= _PLAIN_TRIPS or any(e.kind == "stage" for e in body))


def _fits(entries: Sequence[Entry], start: int, period: int, trip: int, like: int) -> bool:
    """Whether trip ``trip`` takes its operands as trip ``like`` does."""
    for position in range(period):
        ours = entries[start + trip * period + position].operands
        theirs = entries[start + like * period + position].operands
        for mine, other in zip(ours, theirs, strict=True):
            if not _same_source(mine, other, start, period, trip, like):
                return False
    return True


def _same_source(
    mine: Operand, other: Operand, start: int, period: int, trip: int, like: int
) -> bool:
    if not isinstance(other, Value):
        return not isinstance(mine, Value)
    if other.entry < start:
        return isinstance(mine, Value) and mine.entry < start
    back = like - (other.entry - start) // period
    if back > trip:
        # An initial value: whatever came before the loop.
        return not isinstance(mine, Value) or mine.entry < start
    if not isinstance(mine, Value) or mine.entry < start:
        return False
    shifted = Value(other.entry + (trip - like) * period, other.item)
    return mine == shifted


def _sources(
    entries: Sequence[Entry], start: int, period: int, trips: int, position: int
) -> tuple[Source, ...] | None:
    """Where each operand of a position comes from, read off the last trip."""
    last = trips - 1
    found: list[Source] = []
    for index, operand in enumerate(entries[start + last * period + position].operands):
        column = [entries[start + k * period + position].operands[index] for k in range(trips)]
        if not isinstance(operand, Value):
            found.append(Fixed(varies=not all(_equal(operand, other) for other in column)))
        elif operand.entry < start:
            values = tuple(v for v in column if isinstance(v, Value))
            if len({entries[v.entry].types[v.item] for v in values}) != 1:
                return None
            found.append(Outers(values) if len(set(values)) > 1 else Outer(operand))
        else:
            where = operand.entry - start
            back = last - where // period
            if not _initials_agree(entries, column[:back], operand):
                return None
            found.append(Back(back, where % period, operand.item))
    if any(isinstance(s, Fixed) and s.varies for s in found) and not _stackable(
        entries, start, period, trips, position, found
    ):
        return None
    return tuple(found)


def _initials_agree(entries: Sequence[Entry], initials: Sequence[Operand], carried: Value) -> bool:
    """Whether initial values have the type of the value they stand for."""
    type_ = entries[carried.entry].types[carried.item]
    return all(_type_of(entries, initial) in (type_, None) for initial in initials)


def _type_of(entries: Sequence[Entry], operand: Operand) -> object:
    from partitioner.program import TensorType

    if isinstance(operand, Value):
        return entries[operand.entry].types[operand.item]
    if isinstance(operand, Constant):
        return TensorType.of(operand.tensor)
    return "number"


def _stackable(
    entries: Sequence[Entry],
    start: int,
    period: int,
    trips: int,
    position: int,
    sources: Sequence[Source],
) -> bool:
    for index, source in enumerate(sources):
        if not isinstance(source, Fixed) or not source.varies:
            continue
        column = [entries[start + k * period + position].operands[index] for k in range(trips)]
        kinds = {
            ("number", o.dtype) if isinstance(o, Number) else _type_of(entries, o) for o in column
        }
        if len(kinds) != 1:
            return False
    return True


def _equal(left: Operand, right: Operand) -> bool:
    if isinstance(left, Number) or isinstance(right, Number):
        # repr tells 0.0 from -0.0 and takes nan for nan.
        return type(left) is type(right) and repr(left) == repr(right)
    if not isinstance(left, Constant) or not isinstance(right, Constant):
        return False
    if left is right or left.tensor.data_ptr() == right.tensor.data_ptr() != 0:
        return left.tensor.shape == right.tensor.shape and left.tensor.dtype == right.tensor.dtype
    same_type = left.tensor.shape == right.tensor.shape and left.tensor.dtype == right.tensor.dtype
    return same_type and bool(left.tensor.equal(right.tensor))
