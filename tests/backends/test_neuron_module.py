"""The module that the tracer gets: borders, constants, devices, and how calls map to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import fx

from partitioner.backends.neuron.module import example_inputs, kind_of, make_traceable
from partitioner.backends.neuron.record import Argument, Result
from partitioner.errors import CompileError
from partitioner.program import TensorType

aten = torch.ops.aten
F32, I64 = torch.float32, torch.int64


def graph(inputs: dict[str, TensorType]) -> tuple[fx.Graph, dict[str, fx.Node]]:
    made = fx.Graph()
    nodes: dict[str, fx.Node] = {}
    for name, type_ in inputs.items():
        nodes[name] = made.placeholder(name)
        nodes[name].meta["type"] = type_
    return made, nodes


def op(made: fx.Graph, target: Any, *args: Any, shape: Any, dtype: Any = F32, **kw: Any) -> fx.Node:
    node = made.call_function(target, args, kw)
    node.meta["type"] = TensorType(shape, dtype)
    return node


def test_unused_and_returned_inputs_go_and_equal_outputs_are_one() -> None:
    made, n = graph({k: TensorType((2,), F32) for k in ("a", "unused", "back", "b")})
    total = op(made, aten.add.Tensor, n["a"], n["b"], shape=(2,))
    made.output((total, n["back"], total))
    found = make_traceable(made, {})
    assert (0, 3) == tuple(one.input for one in found.arguments)
    assert (Result(output=0), Result(input=2), Result(output=0)) == found.results
    (result,) = found.module(torch.ones(2), torch.ones(2))
    assert [2.0, 2.0] == result.tolist()


def test_wide_numbers_and_tensors_without_dimensions_cross_in_another_form() -> None:
    made, n = graph({"i": TensorType((3,), I64), "s": TensorType((), torch.float64)})
    table = op(made, aten.mul.Tensor, n["i"], 2, shape=(3,), dtype=I64)
    one = op(made, aten.mul.Tensor, n["s"], 2.0, shape=(), dtype=torch.float64)
    made.output((table, one))
    found = make_traceable(made, {})
    assert (Argument(0, "int32", (3,)), Argument(1, "float32", (1,))) == found.arguments
    first, second = found.module(torch.tensor([1, 2, 3], dtype=torch.int32), torch.ones(1))
    assert (torch.int32, [2, 4, 6]) == (first.dtype, first.tolist())
    assert (F32, (1,), [2.0]) == (second.dtype, second.shape, second.tolist())


def test_no_op_names_a_device_and_masks_of_one_number_stay_small() -> None:
    made, n = graph({"x": TensorType((64, 64), F32)})
    mask = op(made, aten.full.default, [64, 64], -1e4, shape=(64, 64), device=torch.device("cpu"))
    ids = op(made, aten.arange.default, 64, shape=(64,), dtype=I64, device=torch.device("cpu"))
    like = op(made, aten.full_like.default, n["x"], 2, shape=(64, 64), device=torch.device("cpu"))
    total = op(made, aten.add.Tensor, mask, like, shape=(64, 64))
    made.output((op(made, aten.mul.Tensor, total, ids, shape=(64, 64)),))
    found = make_traceable(made, {})
    for node in found.module.graph.nodes:
        assert "device" not in node.kwargs
    assert sorted(b.numel() for b in found.module.buffers()) == [1, 64]
    (result,) = found.module(torch.zeros(64, 64))
    expected = (-1e4 + 2) * np.arange(64, dtype=np.float32)
    np.testing.assert_array_equal(expected, result[0].numpy())


def test_equal_constants_are_one_buffer_and_like_names_are_two() -> None:
    made, n = graph({"x": TensorType((2,), F32)})
    value = n["x"]
    for name in ("a.b", "a_b", "a.b"):
        node = made.get_attr(name)
        node.meta["type"] = TensorType((2,), F32)
        value = op(made, aten.add.Tensor, value, node, shape=(2,))
    made.output((value,))
    constants = {"a.b": torch.tensor([1.0, 2.0]), "a_b": torch.tensor([10.0, 20.0])}
    found = make_traceable(made, constants)
    assert 2 == len(list(found.module.buffers()))
    assert [12.0, 24.0] == found.module(torch.zeros(2))[0].tolist()


@pytest.mark.parametrize(
    ("type_", "constant", "said"),
    [
        (TensorType((None,), F32), None, "NCC_EMOD025"),
        (TensorType((2,), torch.complex64), None, "complex64 cannot cross"),
        (TensorType((2,), I64), torch.tensor([2**40, 0]), "NCC_ESFH002"),
    ],
)
def test_what_neuron_cannot_have_is_an_error(type_: Any, constant: Any, said: str) -> None:
    made, n = graph({"x": type_})
    other: Any = 2
    if constant is not None:
        other = made.get_attr("c")
        other.meta["type"] = TensorType.of(constant)
    made.output((op(made, aten.mul.Tensor, n["x"], other, shape=(2,), dtype=type_.dtype),))
    with pytest.raises(CompileError) as caught:
        make_traceable(made, {"c": constant})
    assert said in caught.value.what


def test_examples_cannot_be_taken_for_one_another() -> None:
    arguments = tuple(Argument(i, "float32", (4,)) for i in range(3))
    first, second, third = example_inputs(arguments)
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)
    assert 3 == len({t.data_ptr() for t in (first, second, third)})


@pytest.mark.parametrize(
    ("targets", "kind"),
    [
        ([aten.convolution.default] * 5 + [aten._softmax.default], "unet-inference"),
        ([aten.convolution.default, aten._softmax.default], "transformer"),
        ([aten.scaled_dot_product_attention.default], "transformer"),
        ([aten.add.Tensor], "generic"),
    ],
)
def test_the_kind_of_a_segment(targets: list[Any], kind: str) -> None:
    made = fx.Graph()
    for target in targets:
        made.call_function(target)
    assert kind == kind_of(made)
