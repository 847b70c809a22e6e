"""Random programs: a plan computes what the program computes, bit for bit."""

from __future__ import annotations

import graphlib

import torch
from hypothesis import HealthCheck, given, settings
from torch import fx

from partitioner.interpreter import run_program
from partitioner.passes.pipeline import DEFAULT, parse_pipeline, run_pipeline
from partitioner.planning.graphs import live_nodes
from partitioner.planning.placement import place
from partitioner.planning.segments import Part, cut_graph
from partitioner.program import Program, is_getitem
from tests.programs import programs as programs_of_passes

from .simulate import random_inputs, run_by_runtime, simulate
from .sketch import TWO, Judge, plan
from .strategies import dags, on_second, programs

SETTINGS = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def assert_same(expected: dict[str, torch.Tensor], actual: dict[str, torch.Tensor]) -> None:
    assert list(expected) == list(actual)
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=0, atol=0, equal_nan=True)


@given(programs())
@SETTINGS
def test_a_plan_computes_what_its_program_computes(program: Program):
    inputs = random_inputs(program)
    expected = run_program(program, inputs)
    for second in (None, on_second):
        planned = plan(program, second)
        assert_same(expected, simulate(planned, program, inputs))
        assert_same(expected, run_by_runtime(planned, program, inputs))


@given(programs_of_passes())
@settings(SETTINGS, max_examples=40)
def test_so_does_a_plan_of_what_the_passes_leave(program: Program):
    program, _ = run_pipeline(program, parse_pipeline(DEFAULT))
    inputs = random_inputs(program)
    expected = run_program(program, inputs)
    planned = plan(program, lambda node: "sin" in str(node.target))
    assert_same(expected, simulate(planned, program, inputs))
    assert_same(expected, run_by_runtime(planned, program, inputs))


@given(programs())
@SETTINGS
def test_planning_is_deterministic_and_leaves_the_program_alone(program: Program):
    before = [str(graph) for _, graph in program.all_graphs()]
    first = plan(program, on_second)
    again = plan(program.copy(), on_second)
    assert first.plan == again.plan
    assert first.constants == again.constants
    assert before == [str(graph) for _, graph in program.all_graphs()]


@given(dags())
@SETTINGS
def test_parts_are_convex_and_acyclic_and_hold_every_node_once(program: Program):
    judges = {"first": Judge(on_second), "second": Judge()}
    placement = place(program, TWO, judges)
    cut = cut_graph(program.main, placement)
    owner: dict[fx.Node, int] = {}
    for index, part in enumerate(cut):
        for node in part.nodes if isinstance(part, Part) else (part,):
            assert node not in owner
            owner[node] = index
    live = live_nodes(program.main)
    assert {n for n in live if n in owner or not is_getitem(n)} == set(owner)
    # Parts that reach one another in a circle are just those that are not convex.
    edges: dict[int, set[int]] = {index: set() for index in range(len(cut))}
    for node in live:
        for operand in node.all_input_nodes:
            source = operand if operand in owner else operand.args[0] if operand.args else None
            if source in owner and node in owner and owner[source] != owner[node]:
                edges[owner[node]].add(owner[source])
    graphlib.TopologicalSorter(edges).prepare()
    # And the order of the cut is one in which they can run.
    assert all(source < part for part, sources in edges.items() for source in sources)


@given(dags())
@SETTINGS
def test_sinking_and_merging_never_make_more_segments_than_levels_alone(program: Program):
    placement = place(program, TWO, {"first": Judge(on_second), "second": Judge()})
    parts = [p for p in cut_graph(program.main, placement) if isinstance(p, Part)]
    levels: dict[fx.Node, int] = {}
    groups: set[tuple[int, str]] = set()
    for node in live_nodes(program.main):
        own = placement.backends.get(node, node.name)
        level = 0
        for operand in node.all_input_nodes:
            if operand in levels:
                level = max(level, levels[operand] + (_owner(operand, placement) != own))
        levels[node] = level if not is_getitem(node) else levels[node.args[0]]  # pyright: ignore
        if node in placement.backends:
            groups.add((levels[node], placement.backends[node]))
    assert len(parts) <= len(groups)


def _owner(node: fx.Node, placement: object) -> str:
    backends = placement.backends  # pyright: ignore
    if is_getitem(node) and node not in backends:
        return node.args[0].name  # pyright: ignore
    return backends.get(node, node.name)
