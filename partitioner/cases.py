"""The cases of a pipeline: each of its schedules with its plan, in plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from partitioner.buffers import plan_buffers
from partitioner.buffers.check import check_buffers
from partitioner.capture import Captured
from partitioner.plan import Plan, rescheduled
from partitioner.planning.planned import Planned
from partitioner.program import DrawSequence
from partitioner.rowcounts import growth_of, plain_plan
from partitioner.variants import Merged

__all__ = ["Case", "settled"]


@dataclass(frozen=True)
class Case:
    """One schedule of a pipeline; without variants there is one.

    Attributes:
        choice: the options by which a caller chooses it.
        options: all options of the pipeline.
        captured: before the passes.
        plan: with its own trips.
        trips: by loop of the plan.
        tensors: what the plan reads, by value id.
    """

    choice: dict[str, Any]
    options: dict[str, Any]
    captured: Captured
    plan: Plan
    trips: dict[str, int]
    tensors: dict[str, torch.Tensor]

    @property
    def draws(self) -> tuple[DrawSequence, ...]:
        """What the eager pipeline draws, in order."""
        return self.captured.program.draws


def settled(
    planned: Planned,
    merged: Merged,
    captures: Sequence[Captured],
    choices: Sequence[dict[str, Any]],
    settings: Sequence[dict[str, Any]],
) -> tuple[Planned, tuple[Case, ...]]:
    """The plan of the first variant in plain numbers, and the cases."""
    growth = growth_of(planned.plan)
    if growth:
        planned = replace(planned, plan=plain_plan(planned.plan), growth=growth)
    cases = _cases(planned, merged, captures, choices, settings)
    return replace(planned, plan=cases[0].plan), cases


def _cases(
    planned: Planned,
    merged: Merged,
    captures: Sequence[Captured],
    choices: Sequence[dict[str, Any]],
    settings: Sequence[dict[str, Any]],
) -> tuple[Case, ...]:
    constants = merged.program.constants
    cases: list[Case] = []
    rows = zip(merged.variations, captures, choices, settings, strict=True)
    for own, captured, choice, setting in rows:
        trips = {name: own.trips[body] for name, body in planned.loops.items()}
        tensors = {v: own.constants.get(n, constants[n]) for v, n in planned.constants.items()}
        plan = rescheduled(planned.plan, trips, own.repeats)
        check_buffers(plan, plan_buffers(plan))
        cases.append(Case(choice, setting, captured, plan, trips, tensors))
    return tuple(cases)
