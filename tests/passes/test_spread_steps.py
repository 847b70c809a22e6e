"""Requests at different steps can share the body: each row is what it is at its own step."""

from __future__ import annotations

import operator
from typing import Any

import pytest
import torch
from torch import Tensor, fx

from partitioner.errors import UsageError
from partitioner.interpreter import run_graph
from partitioner.passes.dependence import LoopSite, loop_sites
from partitioner.passes.pipeline import DEFAULT
from partitioner.program import Program, TensorType, add_node, loop
from partitioner.specs import InputSpec
from tests.passes.models import WIDTH, Guided
from tests.passes.running import after, captured, difference

ROWS = 3


def mixing() -> Program:
    """Rows times a matrix that each step has for itself."""
    rows, matrix = TensorType((ROWS, WIDTH), torch.float32), (WIDTH, WIDTH)
    body = fx.Graph()
    x = add_node(body, "placeholder", "x", type=rows)
    turn = add_node(body, "placeholder", "turn", type=TensorType(matrix, torch.float32))
    body.output(
        (
            add_node(
                body,
                "call_function",
                torch.ops.aten.matmul.default,
                (x, turn),
                type=rows,
                source="model.py:7 in forward",
            ),
        )
    )
    main = fx.Graph()
    start = add_node(main, "placeholder", "start", type=rows)
    turns = torch.randn(4, *matrix)
    table = add_node(main, "get_attr", "turns", type=TensorType.of(turns))
    last = add_node(main, "call_function", loop, ("body", (start, table), 4, 1, 1), type=(rows,))
    main.output((add_node(main, "call_function", operator.getitem, (last, 0), type=rows),))
    return Program(main, {"body": body}, {"turns": turns}, (InputSpec("start", rows.spec),), ("x",))


def spread(pipeline: Any, rows: int = ROWS, **inputs: Any) -> tuple[Program, Program]:
    program, _ = after(captured(pipeline, **inputs), DEFAULT)
    return program, after(program, f"spread-steps{{rows={rows}}},eliminate-dead")[0]


@pytest.fixture(scope="module")
def guided() -> tuple[Program, Program]:
    """Before the pass and after it."""
    return spread(Guided(), condition=torch.randn(ROWS, 5, WIDTH))


def steps_of(site: LoopSite, program: Program) -> list[list[Tensor]]:
    """Inputs of the body at each trip, with other numbers in all that requests bring."""
    generator = torch.Generator().manual_seed(1)
    trips: list[list[Tensor]] = []
    fixed = [torch.randn(n.meta["type"].shape, generator=generator) for n in site.inner]
    for trip in range(site.trips):
        values: list[Tensor] = []
        for index, (inner, given) in enumerate(zip(site.inner, site.given, strict=True)):
            moving = site.carries <= index < site.carries + site.slices
            if moving and given.op == "get_attr":
                values.append(program.constants[str(given.target)][trip])
            elif moving or index < site.carries:
                values.append(torch.randn(inner.meta["type"].shape, generator=generator))
            else:
                values.append(fixed[index])
        trips.append(values)
    return trips


def test_a_run_as_ever_gives_what_it_gave(guided: tuple[Program, Program]) -> None:
    program, changed = guided
    assert 0.0 == difference(program, changed)
    (site,) = loop_sites(changed)
    slices = site.inner[site.carries : site.carries + site.slices]
    assert {0} == {node.meta["type"].shape[0] % ROWS for node in slices}


def test_each_row_can_be_at_a_step_of_its_own(guided: tuple[Program, Program]) -> None:
    _, changed = guided
    (site,) = loop_sites(changed)
    name, trips = str(site.node.args[0]), steps_of(site, changed)
    alone = [run_graph(changed, name, values)[0] for values in trips]
    at = [3, 0, 2]
    mixed: list[Tensor] = []
    for column in zip(*trips, strict=True):
        value = column[0].clone()
        for row, trip in enumerate(at):
            # Block after block, as guidance puts them.
            value[row::ROWS] = column[trip][row::ROWS]
        mixed.append(value)
    (actual,) = run_graph(changed, name, mixed)
    for row, trip in enumerate(at):
        torch.testing.assert_close(alone[trip][row], actual[row])


def test_the_bucket_of_one_request_is_given_the_same_values(
    guided: tuple[Program, Program],
) -> None:
    interfaces: list[list[int]] = []
    _, alone = spread(Guided(), 1, condition=torch.randn(1, 5, WIDTH))
    for changed in (alone, guided[1]):
        (site,) = loop_sites(changed)
        interfaces.append([len(node.meta["type"].shape) for node in site.inner])
    assert sorted(interfaces[0]) == sorted(interfaces[1])


def test_a_matrix_of_the_step_is_refused() -> None:
    with pytest.raises(UsageError, match="that takes one value for all rows") as caught:
        after(mixing(), f"spread-steps{{rows={ROWS}}}")
    assert "model.py:7 in forward" == caught.value.where
