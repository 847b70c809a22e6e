"""Plans that are seen to compute what their program does."""

from __future__ import annotations

import torch

from partitioner.interpreter import run_program
from partitioner.plan import Call, Loop
from partitioner.planning.planned import Planned
from partitioner.program import Program

from .simulate import random_inputs, run_by_runtime, simulate
from .sketch import plan

__all__ = ["calls", "planned_and_run", "the_loop"]


def planned_and_run(program: Program, **options: object) -> Planned:
    """A plan that has been seen to compute what the program does."""
    planned = plan(program, **options)  # pyright: ignore
    inputs = random_inputs(program)
    expected = run_program(program, inputs)
    for run in (simulate, run_by_runtime):
        actual = run(planned, program, inputs)
        assert list(expected) == list(actual)
        for name, value in expected.items():
            torch.testing.assert_close(actual[name], value, rtol=0, atol=0)
    return planned


def calls(planned: Planned) -> list[str]:
    """Segments in the order of their calls, loops' bodies in brackets."""
    return _calls(planned.plan.steps)


def _calls(steps: tuple[Call | Loop, ...]) -> list[str]:
    made: list[str] = []
    for step in steps:
        if isinstance(step, Loop):
            made += ["[", *_calls(step.body), "]"]
        else:
            made.append(step.segment)
    return made


def the_loop(planned: Planned) -> Loop:
    (found,) = [step for step in planned.plan.steps if isinstance(step, Loop)]
    return found
