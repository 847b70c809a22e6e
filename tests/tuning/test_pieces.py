"""Segments taken apart by stage: every node once, in convex runs."""

from __future__ import annotations

from hypothesis import given
from torch import fx

from partitioner.planning.graphs import live_nodes
from partitioner.planning.plan import make_plan
from partitioner.program import Program, is_getitem
from partitioner.tuning.pieces import pieces_of
from tests.planning.figures import PAIR
from tests.planning.sketch import Judge
from tests.planning.strategies import dags, on_second
from tests.planning.test_random import SETTINGS

from .samples import prepared


def test_a_piece_a_stage():
    one = prepared()
    pieces = pieces_of(one.program, one.planned, one.target)
    assert ["encoder", "decoder"] == [piece.label for piece in pieces]
    assert [("onnx",), ("onnx",)] == [piece.takers for piece in pieces]
    assert all(piece.estimate["onnx"] > 0 for piece in pieces)


@given(dags())
@SETTINGS
def test_pieces_hold_every_node_once_and_only_read_what_ran_before(program: Program):
    judges = {"first": Judge(), "second": Judge(on_second)}
    planned = make_plan(program, PAIR, judges)
    pieces = pieces_of(program, planned, PAIR)
    seen: dict[fx.Node, int] = {}
    for index, piece in enumerate(pieces):
        for node in piece.part.nodes:
            assert node not in seen
            seen[node] = index
    placed = [n for n in live_nodes(program.main) if n in planned.placement.backends]
    assert set(placed) == seen.keys()
    for node, index in seen.items():
        op = node.args[0] if is_getitem(node) else node
        assert isinstance(op, fx.Node)
        assert seen[op] == index
        assert all(seen[operand] <= index for operand in node.all_input_nodes if operand in seen)


@given(dags())
@SETTINGS
def test_a_pieces_takers_take_all_of_it(program: Program):
    judges = {"first": Judge(), "second": Judge(on_second)}
    planned = make_plan(program, PAIR, judges)
    for piece in pieces_of(program, planned, PAIR):
        refused = any(on_second(n) for n in piece.part.nodes if not is_getitem(n))
        assert (("first",) if refused else ("first", "second")) == piece.takers
