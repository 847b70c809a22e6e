"""When each value of a plan is needed for the last time, computed once when a bundle is loaded.

A schedule is the plan's steps again, each with the values to drop after it, and for each output
of a call where it is written: into a buffer of the run, straight into a row of the array that
collects it, or wherever the backend puts it (a size that only the data decide).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from partitioner.plan import Call, Carry, Loop, Plan, Slice, Step

__all__ = ["CallStep", "Collected", "LoopStep", "OutputPlace", "ScheduledStep", "schedule"]


@dataclass(frozen=True, slots=True)
class OutputPlace:
    """Where a call writes one output.

    Args:
        value: its id.
        dtype: NumPy name.
        shape: None where only the data decide.
        row_of: id of the collecting array whose row this output is, if it is one.
    """

    value: str
    dtype: str
    shape: tuple[int, ...] | None
    row_of: str | None


@dataclass(frozen=True, slots=True)
class Collected:
    """``result`` collects ``inner`` of every trip; ``copied`` unless a call writes it there.

    ``shape`` is that of the result: None where only the data decide.
    """

    inner: str
    result: str
    dtype: str
    shape: tuple[int, ...] | None
    copied: bool


@dataclass(frozen=True, slots=True)
class CallStep:
    """Run a segment, then drop values."""

    segment: str
    inputs: tuple[str, ...]
    outputs: tuple[OutputPlace, ...]
    drop: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LoopStep:
    """Run a body ``trips`` times, then drop values.

    ``unread`` are values of a trip's start that nothing in the body reads; ``leftover`` those of
    the trip that are still there at its end: next values, and what is collected by copy.
    """

    name: str
    trips: int
    carries: tuple[Carry, ...]
    slices: tuple[Slice, ...]
    collected: tuple[Collected, ...]
    body: tuple[ScheduledStep, ...]
    unread: tuple[str, ...]
    leftover: tuple[str, ...]
    drop: tuple[str, ...]


ScheduledStep = CallStep | LoopStep


def schedule(plan: Plan) -> tuple[ScheduledStep, ...]:
    """Schedule a plan, one of a manifest that has been read and so is known to be sound."""
    drawn = (draw.value for group in plan.draws for draw in group.draws)
    start = (*plan.inputs.values(), *plan.constants, *drawn)
    return _sequence(plan, plan.steps, start, plan.outputs.values(), {})


def _sequence(
    plan: Plan,
    steps: Sequence[Step],
    start: Iterable[str],
    keep: Iterable[str],
    rows: dict[str, str],
) -> tuple[ScheduledStep, ...]:
    """Schedule steps that run one after the other.

    Args:
        start: values that exist before the steps and may be dropped by them.
        keep: values that are needed after the steps.
        rows: outputs that are rows of a collecting array: value id -> id of the array.
    """
    droppable = {*start, *(value for step in steps for value in _writes(step))}
    needed = set(keep)
    scheduled: list[ScheduledStep] = []
    for step in reversed(steps):
        touched = dict.fromkeys((*_reads(step), *_writes(step)))
        drop = tuple(value for value in touched if value in droppable and value not in needed)
        scheduled.append(_scheduled(plan, step, drop, rows))
        needed.update(_reads(step))
    return tuple(reversed(scheduled))


def _scheduled(
    plan: Plan, step: Step, drop: tuple[str, ...], rows: dict[str, str]
) -> ScheduledStep:
    if isinstance(step, Loop):
        return _loop(plan, step, drop)
    places = tuple(
        OutputPlace(value, plan.values[value].dtype, _static(plan, value), rows.get(value))
        for value in step.outputs
    )
    return CallStep(step.segment, step.inputs, places, drop)


def _loop(plan: Plan, loop: Loop, drop: tuple[str, ...]) -> LoopStep:
    rows = _direct_rows(plan, loop)
    collected = tuple(
        Collected(
            stacked.inner,
            stacked.result,
            plan.values[stacked.result].dtype,
            _static(plan, stacked.result),
            copied=rows.get(stacked.inner) != stacked.result,
        )
        for stacked in loop.stacked
    )
    start = tuple(part.inner for part in (*loop.carries, *loop.slices))
    keep = {c.next for c in loop.carries} | {c.inner for c in collected if c.copied}
    local = {*start, *(value for step in loop.body for value in _writes(step))}
    read = {value for step in loop.body for value in _reads(step)}
    return LoopStep(
        loop.name,
        loop.trips,
        loop.carries,
        loop.slices,
        collected,
        _sequence(plan, loop.body, start, keep, rows),
        unread=tuple(value for value in start if value not in read and value not in keep),
        leftover=tuple(sorted(keep & local)),
        drop=drop,
    )


def _direct_rows(plan: Plan, loop: Loop) -> dict[str, str]:
    """Collected values that a call of the body can write into their row: id -> result id."""
    written = {v for step in loop.body if isinstance(step, Call) for v in step.outputs}
    rows: dict[str, str] = {}
    for stacked in loop.stacked:
        if stacked.inner in written and _static(plan, stacked.result) is not None:
            rows.setdefault(stacked.inner, stacked.result)
    return rows


def _static(plan: Plan, value: str) -> tuple[int, ...] | None:
    shape = plan.values[value].shape
    known = tuple(dim for dim in shape if isinstance(dim, int))
    return known if len(known) == len(shape) else None


def _writes(step: Step) -> Iterator[str]:
    """What a step leaves for those after it."""
    if isinstance(step, Call):
        yield from step.outputs
        return
    yield from (carry.final for carry in step.carries if carry.final is not None)
    yield from (stacked.result for stacked in step.stacked)


def _reads(step: Step) -> Iterator[str]:
    """What a step needs from those before it."""
    if isinstance(step, Call):
        yield from step.inputs
        return
    yield from (carry.init for carry in step.carries)
    yield from (part.source for part in step.slices)
    inside = {part.inner for part in (*step.carries, *step.slices)}
    inside.update(value for inner in step.body for value in _writes(inner))
    used = [value for inner in step.body for value in _reads(inner)]
    used += [carry.next for carry in step.carries]
    used += [stacked.inner for stacked in step.stacked]
    yield from (value for value in dict.fromkeys(used) if value not in inside)
