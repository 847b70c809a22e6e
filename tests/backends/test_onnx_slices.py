"""Slices of slices as one: the same numbers from ONNX's own evaluator."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from partitioner.backends.onnx.slices import merge_slices

Cut = tuple[int, int, int, int]  # start, end, axis, step


def model(*cuts: Cut, kept: int | None = None, steps: bool = True) -> onnx.ModelProto:
    """Slices in a row of a (6, 7, 8); ``kept`` is the index of one that is a result, too."""
    nodes: list[onnx.NodeProto] = []
    numbers: list[onnx.TensorProto] = []
    for index, cut in enumerate(cuts):
        names = [f"{part}{index}" for part in "seat"][: 4 if steps else 3]
        numbers += [
            helper.make_tensor(name, TensorProto.INT64, [1], [value])
            for name, value in zip(names, cut, strict=False)
        ]
        nodes.append(helper.make_node("Slice", [f"x{index}", *names], [f"x{index + 1}"]))
    results = [len(cuts), *([] if kept is None else [kept + 1])]
    sides = ["x", "y", "z"]
    outputs = [helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, sides) for i in results]
    x = helper.make_tensor_value_info("x0", TensorProto.FLOAT, [6, 7, 8])
    graph = helper.make_graph(nodes, "slices", [x], outputs, numbers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def outputs(given: onnx.ModelProto) -> list[list[float]]:
    x = np.arange(336, dtype=np.float32).reshape(6, 7, 8)
    return [np.asarray(y).ravel().tolist() for y in ReferenceEvaluator(given).run(None, {"x0": x})]


FIRST, SECOND, THIRD = (1, 5, 0, 1), (2, 7, 1, 2), (-6, 2**40, 2, 1)


@pytest.mark.parametrize(
    ("given", "slices"),
    [
        (model(FIRST, SECOND), 1),
        (model(FIRST, SECOND, THIRD), 1),
        (model(FIRST, SECOND, steps=False), 1),
        (model(FIRST, (1, 2, 0, 1)), 2),
        (model(FIRST, (1, 2, 0, 1), SECOND), 2),
        (model(FIRST, (1, 3, -1, 1)), 2),
        (model(FIRST, SECOND, THIRD, kept=0), 2),
        (model(FIRST, SECOND, kept=0), 2),
    ],
    ids=["two", "three", "no steps", "same", "same first", "from the end", "kept first", "kept"],
)
def test_slices_along_different_dimensions_are_one(given: onnx.ModelProto, slices: int) -> None:
    expected = outputs(given)
    merge_slices(given)
    onnx.checker.check_model(given)
    assert slices == sum(node.op_type == "Slice" for node in given.graph.node)
    assert expected == outputs(given)
    used = {name for node in given.graph.node for name in node.input}
    assert used >= {number.name for number in given.graph.initializer}


def test_what_a_graph_inside_of_a_node_reads_stays() -> None:
    given = model(FIRST, SECOND)
    value = helper.make_tensor_value_info("inner", TensorProto.FLOAT, ["x", "y", "z"])
    inner = helper.make_graph([helper.make_node("Neg", ["x1"], ["inner"])], "inner", [], [value])
    number = helper.make_tensor("true", TensorProto.BOOL, [], [True])
    given.graph.initializer.append(number)
    given.graph.node.append(
        helper.make_node("If", ["true"], ["both"], then_branch=inner, else_branch=inner)
    )
    given.graph.output.append(
        helper.make_tensor_value_info("both", TensorProto.FLOAT, ["x", "y", "z"])
    )
    expected = outputs(given)
    merge_slices(given)
    assert expected == outputs(given)
