"""Who is asked, who takes a node, and what is said where nobody does."""

from __future__ import annotations

import pytest
import torch

from partitioner.backends.base import Rejected
from partitioner.errors import PlacementError
from partitioner.planning.placement import place
from partitioner.planning.plan import make_plan
from partitioner.program import node_type
from partitioner.targets import Target

from .sketch import SHAPE, TWO, Judge, Sketch, aten


def chain(*sources: str):
    """A program with one op a source line, each another one."""
    sketch = Sketch()
    x = sketch.input("x")
    for index, source in enumerate(sources):
        sketch.source = source
        x = sketch.op([aten.sin.default, aten.neg.default][index % 2], x)
    return sketch.done(y=x)


def test_the_first_backend_that_takes_a_node_has_it():
    program = chain("a", "b", "a")
    judges = {"second": Judge(), "first": Judge(lambda n: n.meta["source"] == "b")}
    placement = place(program, TWO, judges)
    assert ["first", "second", "first"] == list(placement.backends.values())
    assert (3, 3) == (judges["first"].asked, judges["second"].asked)
    ((node, refusals),) = placement.rejections.items()
    assert "b" == node.meta["source"]
    assert {"first": Rejected("op-unsupported", "no aten.neg.default", "b")} == refusals


def test_a_backend_that_is_not_given_is_not_asked():
    placement = place(chain("a"), TWO, {"second": Judge()})
    assert ["second"] == list(placement.backends.values())


def test_items_go_with_their_op_and_structural_nodes_to_nobody():
    sketch = Sketch()
    x = sketch.input("x")
    node = sketch.op(aten.sort.stable, x, stable=True, dim=1, descending=False)
    item = sketch.item(node, 0)
    (scaled,) = sketch.host("tests.scale", item)
    program = sketch.done(y=scaled)
    judge = Judge()
    assert {node: "first", item: "first"} == place(program, TWO, {"first": judge}).backends
    assert 1 == judge.asked


def test_bodies_and_called_graphs_are_placed_once():
    sketch = Sketch()
    x = sketch.input("x")
    sketch.body("stage", lambda s, a: [s.sin(a)], SHAPE)
    sketch.body("step", lambda s, a: s.call("stage", a), SHAPE)
    sketch.body("unused", lambda s, a: [s.op(aten.neg.default, a)], SHAPE)
    (y,) = sketch.loop("step", 3, inits=[sketch.call("stage", x)[0]])
    judge = Judge(lambda n: n.target is aten.neg.default)
    place(sketch.done(y=y), TWO, {"first": judge})
    assert 1 == judge.asked


def test_an_op_that_nobody_takes_is_named_with_its_line_and_every_reason():
    program = chain("model.py:7 in forward")
    judges = {"first": Judge(lambda n: True), "second": Judge(lambda n: True)}
    with pytest.raises(PlacementError) as caught:
        make_plan(program, TWO, judges)
    assert (
        "no backend of target 'two' takes one of the pipeline's ops:\n"
        "  aten.sin.default at model.py:7 in forward\n"
        "    first: op-unsupported: no aten.sin.default\n"
        "    second: op-unsupported: no aten.sin.default"
    ) == caught.value.what
    assert "model.py:7 in forward" == caught.value.where
    assert "write the step with other ops, or make it a host op (@partitioner.host_op)" == (
        caught.value.advice
    )


def test_all_refusals_are_in_one_error_and_equal_ones_are_counted():
    lines = [f"line {i}" for i in range(8)]
    with pytest.raises(PlacementError) as caught:
        place(chain(*lines, *lines, "line 0"), TWO, {"first": Judge(lambda n: True)})
    shown = caught.value.what.splitlines()
    assert "no backend of target 'two' takes 17 of the pipeline's ops:" == shown[0]
    assert "  aten.sin.default at line 0 (3 times)" == shown[1]
    assert "  aten.neg.default at line 1 (2 times)" == shown[3]
    assert "  and 3 more like these" == shown[-1]
    assert 1 + 5 * 2 + 1 == len(shown)


def test_an_op_without_a_line_is_named_all_the_same():
    with pytest.raises(PlacementError) as caught:
        place(chain(""), TWO, {"first": Judge(lambda n: True)})
    assert "  aten.sin.default at an unknown line" == caught.value.what.splitlines()[1]
    assert caught.value.where is None


def test_a_target_whose_backends_are_all_missing_says_so():
    target = Target("far", ("neuron", "host"), 1e-4, 1e-6, (), "elsewhere")
    with pytest.raises(PlacementError) as caught:
        place(chain("a"), target, {})
    assert "none of the backends of target 'far' (neuron, host) is available" == caught.value.what


def test_a_program_without_ops_needs_no_backend():
    sketch = Sketch()
    x = sketch.input("x")
    assert {} == place(sketch.done(y=x), TWO, {}).backends
    assert torch.float32 == node_type(x).dtype
