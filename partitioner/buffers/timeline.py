"""A plan's steps on one time line, and what each of them reads.

A call takes one moment. A loop takes those of its body once, one before them (``first``: what its
trips share is there from now on) and one after them (``last``: the end of a trip, and of the
loop). So whatever must not share memory within a trip is at the same time at some moment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from partitioner.plan import Call, Loop, Step

__all__ = ["Moment", "timeline", "written"]


@dataclass(frozen=True, slots=True)
class Moment:
    """A step and its time.

    Args:
        first, last: equal for a call.
        reads: values from before the step, each once, those that the body of a loop reads too.
        free: of a loop, the values from outside that its body reads, or hands on, by itself.
        body: of a loop.
    """

    step: Step
    first: int
    last: int
    reads: tuple[str, ...]
    free: tuple[str, ...] = ()
    body: tuple[Moment, ...] = ()


def timeline(steps: Sequence[Step], start: int = 0) -> tuple[Moment, ...]:
    """The steps with their times, the first at ``start``."""
    moments: list[Moment] = []
    now = start
    for step in steps:
        moments.append(_moment(step, now))
        now = moments[-1].last + 1
    return tuple(moments)


def written(step: Step) -> Iterator[str]:
    """What a step leaves for those after it."""
    if isinstance(step, Call):
        yield from step.outputs
        return
    yield from (carry.final for carry in step.carries if carry.final is not None)
    yield from (stacked.result for stacked in step.stacked)


def _moment(step: Step, now: int) -> Moment:
    if isinstance(step, Call):
        return Moment(step, now, now, tuple(dict.fromkeys(step.inputs)))
    body = timeline(step.body, now + 1)
    free = _free(step, body)
    given = (*(carry.init for carry in step.carries), *(part.source for part in step.slices))
    last = body[-1].last + 1 if body else now + 1
    return Moment(step, now, last, tuple(dict.fromkeys((*given, *free))), free, body)


def _free(loop: Loop, body: Sequence[Moment]) -> tuple[str, ...]:
    inside = {part.inner for part in (*loop.carries, *loop.slices)}
    used: dict[str, None] = {}
    for moment in body:
        used.update(dict.fromkeys(moment.reads))
        inside.update(written(moment.step))
    used.update(dict.fromkeys(carry.next for carry in loop.carries))
    used.update(dict.fromkeys(stacked.inner for stacked in loop.stacked))
    return tuple(value for value in used if value not in inside)
