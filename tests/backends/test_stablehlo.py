"""Lowering by torch-mlir: what is read from it, where it came from, what it computes."""

from __future__ import annotations

import pytest
import torch

from partitioner.backends.neuron.core_graph import core_graph
from partitioner.backends.neuron.hlo_check import HloReport, check_program
from partitioner.backends.neuron.iree_run import compile_module, run_module
from partitioner.backends.neuron.stablehlo import lower, read_instructions
from partitioner.errors import CompileError
from partitioner.interpreter import run_nodes

from .segments import Draft, aten


def checked(draft: Draft) -> HloReport:
    sources = [str(n.meta.get("source", "")) for n in draft.graph.nodes]
    module, _ = lower(draft.graph, draft.types())
    places = lambda place: sources[place] if isinstance(place, int) else ""  # noqa: E731
    return check_program(read_instructions(module), places)


def test_an_op_that_neuron_does_not_have_is_found_with_its_line() -> None:
    draft = Draft()
    x = draft.input("x", 4, 8)
    both = draft.op(aten.sort.default, draft.op(aten.neg.default, x))
    draft.done(draft.item(both, 0))
    (found,) = checked(draft).findings
    assert ("sort", "EVRF029", True) == (found.opcode, found.detail, found.refused)
    assert ("m.py:2 in forward",) == found.sources


def test_a_configuration_that_neuron_does_not_have_is_found() -> None:
    draft = Draft()
    x, kernel = draft.input("x", 1, 4, 6, 6), draft.constant("kernel", torch.ones(4, 2, 3, 3))
    draft.done(
        draft.op(
            aten.convolution.default,
            *(x, kernel, None, [2, 2], [0, 0], [2, 2], True, [0, 0], 1),
        )
    )
    (found,) = checked(draft).findings
    assert ("convolution", "EVRF010") == (found.opcode, found.detail)


def test_float64_of_the_model_is_found_and_that_of_lowering_is_none() -> None:
    draft = Draft()
    x = draft.op(aten.var.correction, draft.input("x", 4, 8), [1])
    draft.done(draft.op(aten.add.Tensor, x, 1e-5))
    assert () == checked(draft).findings

    draft = Draft()
    wide = draft.op(aten._to_copy.default, draft.input("x", 4, 8), dtype=torch.float64)
    draft.done(draft.op(aten.exp.default, wide))
    assert {"dtype"} == {found.code for found in checked(draft).findings}


def test_what_torch_mlir_does_not_lower_is_named() -> None:
    draft = Draft()
    x = draft.op(aten.neg.default, draft.input("x", 4, 4))
    draft.done(draft.op(aten.special_bessel_j0.default, x))
    with pytest.raises(CompileError, match=r"does not lower aten\.special_bessel_j0") as caught:
        lower(draft.graph, {})
    assert "m.py:2 in forward" == caught.value.where


def test_constants_are_arguments_and_what_depends_on_nothing_is_computed() -> None:
    draft = Draft()
    x, weight = draft.input("x", 3), draft.constant("weight", torch.ones(1000, 3))
    row = draft.op(aten.arange.default, 3)
    draft.done(draft.op(aten.add.Tensor, draft.op(aten.mv.default, weight, x), 1), row)
    core = core_graph(draft.graph, draft.types())
    assert ("weight",) == core.constants
    assert [[0, 1, 2]] == [tensor.tolist() for tensor in core.folded]


# --- the numbers --------------------------------------------------------------------------------


def network() -> Draft:
    """A convolution, a norm, an attention, an index: what segments are made of."""
    generator = torch.Generator().manual_seed(0)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    draft = Draft()
    x = draft.input("x", 1, 4, 4, 4)
    kernel = draft.constant("kernel", numbers(8, 4, 3, 3))
    x = draft.op(aten.conv2d.default, x, kernel, None, [1, 1], [1, 1])
    x = draft.op(aten.group_norm.default, x, 2, draft.constant("scale", numbers(8)), None, 1e-5)
    x = draft.op(aten.upsample_nearest2d.vec, x, [8, 8], None)
    x = draft.op(aten.reshape.default, x, [1, 2, 64, 4])
    x = draft.op(aten.scaled_dot_product_attention.default, x, x, x)
    places = draft.constant("places", torch.tensor([3, 1]))
    x = draft.op(aten.index.Tensor, x, [None, None, places])
    positive = draft.op(aten.gt.Scalar, x, 0)
    draft.done(draft.op(aten.gelu.default, x), positive, draft.op(aten.argmax.default, x, -1))
    return draft


def test_what_is_lowered_is_the_segment() -> None:
    draft = network()
    inputs = [torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(1))]
    expected = run_nodes(draft.graph, draft.constants, inputs)
    module, core = lower(draft.graph, draft.types())
    assert not [f for f in check_program(read_instructions(module)).findings if f.refused]

    text = module.operation.get_asm()
    weights = [draft.constants[name] for name in core.constants]
    actual = run_module(compile_module(text), [*inputs, *weights, *core.folded])
    for want, have in zip(expected, actual, strict=True):
        assert (want.dtype, want.shape) == (have.dtype, have.shape)
        torch.testing.assert_close(want, have, rtol=1e-5, atol=1e-6)


def test_other_text_is_refused() -> None:
    with pytest.raises(CompileError, match="IREE does not compile"):
        compile_module("func.func @main() { stablehlo.nonsense }")
