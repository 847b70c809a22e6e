"""The members of a bundle, one after the other, or so that the compilers of several run at once."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

from partitioner.phases import Phases
from partitioner.targets.choice import naming_target

__all__ = ["Member", "in_turn"]

Report = dict[str, Any]


@dataclass(frozen=True)
class Member:
    """A member to be built.

    Attributes:
        label: tells it from the others; nothing if there is but one.
        target: that errors name; empty for none.
        work: stops once, when the member's compilers run, and gives its report in the end.
    """

    label: str
    target: str
    work: Generator[None, None, Report]


def in_turn(
    members: Iterable[Member], phase: Phases, *, ahead: bool
) -> Iterator[tuple[str, Report]]:
    """The reports of members by their labels, in order.

    Args:
        ahead: begin all before the first is waited for.
    """
    with ExitStack() as stack:
        started: list[Member] = []
        for member in members:
            stack.enter_context(closing(member.work))
            _go_on(member, phase)
            if ahead:
                started.append(member)
            else:
                yield member.label, _go_on(member, phase)
        for member in started:
            yield member.label, _go_on(member, phase)


def _go_on(member: Member, phase: Phases) -> Report:
    """Work until its compilers run, or, the second time, to the end, which gives the report."""
    phase.target = member.label
    with naming_target(member.target):
        try:
            next(member.work)
        except StopIteration as end:
            return end.value
    return {}
