"""The choice of what leaves a loop is the cheapest there is, and keeps to the budget."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx

from partitioner.passes.frontier import Choice, Costs, choose


@st.composite
def graphs(draw: Any) -> tuple[list[fx.Node], dict[fx.Node, Costs]]:
    """Up to seven candidates over an input, each read by some of the others or by the rest."""
    graph = fx.Graph()
    x = graph.placeholder("x")
    nodes: list[fx.Node] = []
    for _ in range(draw(st.integers(1, 7))):
        operands = draw(st.lists(st.sampled_from([x, *nodes]), min_size=1, max_size=2, unique=True))
        nodes.append(graph.call_function(torch.stack, (operands,)))
    rest = draw(st.lists(st.sampled_from(nodes), min_size=1, max_size=3, unique=True))
    graph.output(tuple(rest))
    costs = {
        node: Costs(
            float(draw(st.integers(0, 20))),
            draw(st.one_of(st.none(), st.integers(1, 20).map(float))) if node not in rest else 5.0,
            draw(st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 9, 10**9])),
        )
        for node in nodes
    }
    return nodes, costs


def live(nodes: list[fx.Node]) -> list[fx.Node]:
    found: set[fx.Node] = set()
    for node in reversed(nodes):
        if any(user.op == "output" or user in found for user in node.users):
            found.add(node)
    return [node for node in nodes if node in found]


def price(nodes: list[fx.Node], moved: set[fx.Node], costs: dict[fx.Node, Costs]) -> float | None:
    """What a choice costs; None if it cannot be made."""
    total = 0.0
    for node in nodes:
        if node not in moved:
            total += costs[node].work
            continue
        if any(operand in nodes and operand not in moved for operand in node.all_input_nodes):
            return None
        # What nothing needs in the end stays where it is, and reads like everything else.
        if any(user not in moved for user in node.users):
            crossing = costs[node].crossing
            if crossing is None:
                return None
            total += crossing
    return total


@given(graphs())
@settings(max_examples=200, deadline=None)
def test_no_choice_is_cheaper(case: Any) -> None:
    nodes, costs = case
    choice = choose(nodes, costs.__getitem__, 10**12)
    alive = live(nodes)
    prices = [
        price(alive, set(subset), costs)
        for size in range(len(alive) + 1)
        for subset in itertools.combinations(alive, size)
    ]
    best = min(p for p in prices if p is not None)
    found = price(alive, set(choice.moved), costs)
    assert found is not None
    assert abs(found - best) <= 1e-6 * max(best, 1.0)
    assert choice.held == sum(costs[node].held for node in choice.crossing)


@given(graphs(), st.integers(0, 20))
@settings(max_examples=100, deadline=None)
def test_a_budget_is_kept(case: Any, budget: int) -> None:
    nodes, costs = case
    choice = choose(nodes, costs.__getitem__, budget)
    assert choice.held <= budget
    free = choose(nodes, costs.__getitem__, 10**12)
    assert len(free.moved) - len(choice.moved) == choice.declined
    assert price(live(nodes), set(choice.moved), costs) is not None


def test_nothing_to_choose_from() -> None:
    assert Choice() == choose([], lambda _: Costs(1.0, 1.0, 1), 5)


@pytest.mark.parametrize("budget", [0, 3, 4, 10**9])
def test_a_long_chain_beside_a_large_value(budget: int) -> None:
    """In whole units of the flow the many small works outweigh the small value's bytes."""
    graph = fx.Graph()
    x = last = graph.placeholder("x")
    costs: dict[fx.Node, Costs] = {}
    for _ in range(3_000):
        last = graph.call_function(torch.sin, (last,))
        costs[last] = Costs(1e6, 3e5, 4)
    large = graph.call_function(torch.cos, (x,))
    costs[large] = Costs(1e12, 3e5, 10**9)
    graph.output((last, large))
    choice = choose(list(costs), costs.__getitem__, budget)
    expected = {0: 0, 3: 0, 4: 3_000, 10**9: 3_000}
    # Beside the chain's four bytes the large value does not fit, and the chain saves less.
    if budget < 10**9:
        assert expected[budget] == len(choice.moved)
    assert choice.held <= budget
    assert 3_001 == len(choice.moved) + choice.declined
