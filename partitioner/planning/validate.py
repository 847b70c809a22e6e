"""An independent check of a plan against its program.

It shares no code with the planner: it recomputes from the plan alone what is read and written, and
from the program alone what has to be covered.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, NoReturn, cast

from torch import fx

from partitioner.errors import ProgramError
from partitioner.plan import Call, Loop, Plan, Step
from partitioner.program import STRUCTURAL, Program, call, host, loop

if TYPE_CHECKING:
    from partitioner.planning.plan import Planned

__all__ = ["validate_plan"]


def validate_plan(program: Program, planned: Planned) -> None:
    """Prove that a plan computes its program's nodes, each once, in a possible order.

    Raises:
        ProgramError: says which rule the plan breaks.
    """
    plan = planned.plan
    written = set(plan.inputs.values()) | set(plan.constants)
    written |= {draw.value for group in plan.draws for draw in group.draws}
    _check_steps(plan, plan.steps, written)
    for name, value in plan.outputs.items():
        _require(value in written, f"output {name!r} is never written")
    _check_cover(program, planned)
    _check_closed(planned)


def _fail(what: str) -> NoReturn:
    raise ProgramError(f"the plan is wrong: {what}", advice="this is a defect; please report it")


def _require(condition: bool, what: str) -> None:
    if not condition:
        _fail(what)


# --- order and types ----------------------------------------------------------------------------


def _check_steps(plan: Plan, steps: tuple[Step, ...], written: set[str]) -> None:
    for step in steps:
        if isinstance(step, Call):
            _check_call(plan, step, written)
        else:
            _check_loop(plan, step, written)


def _check_call(plan: Plan, step: Call, written: set[str]) -> None:
    info = plan.segments.get(step.segment)
    if info is None:
        _fail(f"no segment {step.segment!r}")
    for value in step.inputs:
        _require(value in written, f"{step.segment!r} reads {value!r} before it is written")
    for value in step.outputs:
        _require(value not in written, f"{step.segment!r} writes {value!r} a second time")
        written.add(value)
    given = [plan.values[v] for v in (*step.inputs, *step.outputs)]
    wanted = [spec for _, spec in (*info.inputs, *info.outputs)]
    _require(given == wanted, f"{step.segment!r} is called with {given}, takes {wanted}")


def _check_loop(plan: Plan, step: Loop, written: set[str]) -> None:
    for value in (*(c.init for c in step.carries), *(s.source for s in step.slices)):
        _require(value in written, f"loop {step.name!r} reads {value!r} before it is written")
    inside = set(written)
    for value in (*(c.inner for c in step.carries), *(s.inner for s in step.slices)):
        _require(value not in inside, f"loop {step.name!r} writes {value!r} a second time")
        inside.add(value)
    _check_steps(plan, step.body, inside)
    for value in (*(c.next for c in step.carries), *(s.inner for s in step.stacked)):
        _require(value in inside, f"loop {step.name!r} gives {value!r}, which is never written")
    for carry in step.carries:
        kinds = {plan.values[v] for v in (carry.init, carry.inner, carry.next)}
        _require(len(kinds) == 1, f"loop {step.name!r} carries values of types {kinds}")
    finals = [c.final for c in step.carries if c.final is not None]
    for value in (*finals, *(s.result for s in step.stacked)):
        _require(value not in inside, f"loop {step.name!r} writes {value!r} a second time")
        written.add(value)


# --- cover --------------------------------------------------------------------------------------


def _check_cover(program: Program, planned: Planned) -> None:
    """Every op of every graph is in one segment that is called as often as it has to be."""
    wanted: dict[str, int] = {}
    _count_ops(program, program.main, 1, wanted)
    found: dict[str, int] = {}
    _count_calls(planned, planned.plan.steps, found)
    _require(wanted == found, f"the program runs {wanted}, the plan runs {found}")


def _count_ops(program: Program, graph: fx.Graph, times: int, counts: dict[str, int]) -> None:
    for node in graph.nodes:
        if node.op != "call_function" or node.target is operator.getitem:
            continue
        if node.target is call:
            _count_ops(program, program.graphs[cast(str, node.args[0])], times, counts)
        elif node.target is loop:
            trips = times * cast(int, node.args[2])
            _count_ops(program, program.graphs[cast(str, node.args[0])], trips, counts)
        else:
            name = cast(str, node.args[0]) if node.target is host else str(node.target)
            counts[name] = counts.get(name, 0) + times


def _count_calls(
    planned: Planned, steps: tuple[Step, ...], counts: dict[str, int], times: int = 1
) -> None:
    for step in steps:
        if isinstance(step, Loop):
            _count_calls(planned, step.body, counts, times * step.trips)
            continue
        segment = cast(Any, planned.segments[step.segment])
        if not hasattr(segment, "graph"):
            counts[segment.op] = counts.get(segment.op, 0) + times
            continue
        for node in segment.graph.nodes:
            ignored = node.target is operator.getitem or node.target in STRUCTURAL
            if node.op == "call_function" and not ignored:
                counts[str(node.target)] = counts.get(str(node.target), 0) + times


def _check_closed(planned: Planned) -> None:
    """Segments are graphs of their own. That they are convex and run in a possible order is what
    ``_check_steps`` proves: a segment runs at once, and reads only what was written before."""
    for name, segment in planned.segments.items():
        graph = getattr(segment, "graph", None)
        if graph is None:
            continue
        seen: set[fx.Node] = set()
        for node in graph.nodes:
            _require(
                all(operand in seen for operand in node.all_input_nodes),
                f"segment {name!r} uses a node before it is defined",
            )
            seen.add(node)
