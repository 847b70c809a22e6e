"""Plans with one thing wrong, and what the validator says of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from torch import fx

from partitioner.errors import ProgramError
from partitioner.plan import Loop
from partitioner.planning.planned import Planned
from partitioner.planning.validate import validate_plan
from partitioner.program import Program

from .sketch import TWO, Judge

__all__ = [
    "JUDGES",
    "change",
    "find",
    "refusal",
    "refused_by_first",
    "with_graph",
    "with_info",
    "with_loop",
    "with_plan",
    "with_step",
]

change = dataclasses.replace


def refused_by_first(node: fx.Node) -> bool:
    return node.meta.get("source") == "second"


JUDGES = {"first": Judge(refused_by_first), "second": Judge()}


def refusal(program: Program, planned: Planned) -> str:
    with pytest.raises(ProgramError) as caught:
        validate_plan(program, planned, TWO, JUDGES)
    assert caught.value.what.startswith("the plan is wrong: ")
    return caught.value.what.removeprefix("the plan is wrong: ")


def with_plan(planned: Planned, **changes: Any) -> Planned:
    return change(planned, plan=change(planned.plan, **changes))


def with_step(planned: Planned, index: int, edit: Callable[[Any], Any]) -> Planned:
    steps = list(planned.plan.steps)
    steps[index] = edit(steps[index])
    return with_plan(planned, steps=tuple(steps))


def with_loop(planned: Planned, edit: Callable[[Loop], Loop]) -> Planned:
    return with_step(planned, 2, edit)


def with_graph(planned: Planned, name: str, edit: Callable[[fx.Graph], None]) -> Planned:
    """A copy in which one segment's graph is edited."""
    segment: Any = planned.segments[name]
    graph, env = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in segment.graph.nodes:
        env[node] = graph.node_copy(node, lambda n: env[n])
    edit(graph)
    return change(planned, segments={**planned.segments, name: change(segment, graph=graph)})


def with_info(planned: Planned, name: str, /, **changes: Any) -> Planned:
    infos = planned.plan.segments
    return with_plan(planned, segments={**infos, name: change(infos[name], **changes)})


def find(graph: fx.Graph, target: Any) -> fx.Node:
    return next(n for n in graph.nodes if n.target is target)
