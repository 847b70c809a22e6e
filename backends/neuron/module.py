"""From a segment's graph to a module that ``torch_neuronx.trace`` takes as it is meant.

The tracer merges equal inputs, drops unused ones and freezes what it sees, mostly with no more than
a warning. So the module it gets has nothing of that kind left, and how a call of the segment
becomes one of the module is written down:

- inputs that nothing reads are gone, and so are outputs that are inputs; equal outputs are one;
- integers of 64 bits and floats of 64 bits cross the border in 32, tensors without dimensions as
  one of one element;
- constants are buffers, and ops that make a tensor on the CPU out of nothing are constants, since
  the tracer moves the module, and not its graph, to its own device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import fx, nn

from partitioner.backends.graphs import identifier
from partitioner.backends.neuron.record import Argument, Result
from partitioner.backends.neuron.settings import Kind
from partitioner.errors import CompileError
from partitioner.program import TensorType

__all__ = ["Traceable", "example_inputs", "kind_of", "make_traceable"]

_aten = torch.ops.aten

#: What crosses the border as something else.
_NARROWED = {torch.int64: torch.int32, torch.float64: torch.float32}

_BORDER = frozenset(
    [
        torch.bool,
        torch.uint8,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.float16,
        torch.float32,
    ]
)

#: What an op makes of nothing becomes a constant up to this size.
_FOLDED_BYTES = 16 * 2**20

#: From so many convolutions on a segment is compiled as the networks that consist of them.
_CONVOLUTIONS = 4

_ATTENTION = ("softmax", "attention")


@dataclass(frozen=True)
class Traceable:
    """A module for the tracer.

    Attributes:
        module: its positional arguments are ``arguments``; it gives a tuple.
        arguments: which of the segment's inputs they are, and their types.
        results: where the segment's outputs come from.
        constants: buffers of the module by their names, and the constants that they are; others
            were made here.
    """

    module: fx.GraphModule
    arguments: tuple[Argument, ...]
    results: tuple[Result, ...]
    constants: Mapping[str, str]


def make_traceable(graph: fx.Graph, constants: Mapping[str, torch.Tensor]) -> Traceable:
    """The module of a segment.

    Args:
        graph: of the segment; written to. Its placeholders are the module's arguments, and their
            ``meta["type"]`` is what crosses the border.
        constants: by name, weights among them. Of those on ``meta`` only the type is known, and
            their numbers are not checked.

    Raises:
        CompileError: a shape is not known, a dtype cannot cross the border, or a constant does not
            fit in 32 bits.
    """
    inputs = [n for n in graph.nodes if n.op == "placeholder"]
    results = _take_out_results(graph, inputs)
    arguments = _narrow_inputs(graph, inputs)
    root = nn.Module()
    places = _put_constants(graph, root, constants)
    _drop_devices(graph, root)
    module = fx.GraphModule(root, graph)
    names = {place: name for name, place in places.items()}
    return Traceable(module.eval(), tuple(arguments), tuple(results), names)


def example_inputs(arguments: tuple[Argument, ...]) -> tuple[torch.Tensor, ...]:
    """A tensor for each argument, none of which can be taken for another."""
    generator = torch.Generator().manual_seed(0)
    return tuple(_example(one, generator) for one in arguments)


def kind_of(graph: fx.Graph) -> Kind:
    """What ``--model-type`` a segment is: by its convolutions, else by its attention."""
    names = [str(n.target) for n in graph.nodes if n.op == "call_function"]
    if sum("conv" in name for name in names) >= _CONVOLUTIONS:
        return "unet-inference"
    if any(word in name for name in names for word in _ATTENTION):
        return "transformer"
    return "generic"


def _example(argument: Argument, generator: torch.Generator) -> torch.Tensor:
    dtype = getattr(torch, argument.dtype)
    if dtype.is_floating_point:
        return torch.rand(argument.shape, generator=generator).to(dtype)
    # Whole numbers may be indices, of which 0 is always one.
    return torch.zeros(argument.shape, dtype=dtype)


# --- the border ---------------------------------------------------------------------------------


def _take_out_results(graph: fx.Graph, inputs: list[fx.Node]) -> list[Result]:
    """Leave the graph with the outputs that it computes, each once and in a dtype of the border."""
    output = graph.output_node()
    results: list[Result] = []
    kept: dict[fx.Node, int] = {}
    for node in cast("tuple[fx.Node, ...]", output.args[0]):
        if node in inputs:
            results.append(Result(input=inputs.index(node)))
            continue
        results.append(Result(output=kept.setdefault(node, len(kept))))
    with graph.inserting_before(output):
        output.args = (tuple(_narrow_output(graph, node) for node in kept),)
    return results


def _narrow_output(graph: fx.Graph, node: fx.Node) -> fx.Node:
    type_ = _static(node)
    dtype = _border_dtype(node, type_.dtype)
    if dtype != type_.dtype:
        node = graph.call_function(_aten._to_copy.default, (node,), {"dtype": dtype})
    if not type_.shape:
        node = graph.call_function(_aten.reshape.default, (node, [1]))
    return node


def _narrow_inputs(graph: fx.Graph, inputs: list[fx.Node]) -> list[Argument]:
    arguments: list[Argument] = []
    for index, node in enumerate(inputs):
        if not node.users:
            graph.erase_node(node)
            continue
        type_ = _static(node)
        dtype = _border_dtype(node, type_.dtype)
        shape = cast("tuple[int, ...]", type_.shape)
        _widen(graph, node, dtype, type_)
        node.meta["type"] = TensorType(shape or (1,), dtype)
        name: Any = str(dtype).removeprefix("torch.")
        arguments.append(Argument(index, name, shape or (1,)))
    return arguments


def _widen(graph: fx.Graph, node: fx.Node, dtype: torch.dtype, type_: TensorType) -> None:
    """Inside, an input is what it is outside."""
    users = list(node.users)
    found = node
    with graph.inserting_after(node):
        if dtype != type_.dtype:
            found = graph.call_function(_aten._to_copy.default, (node,), {"dtype": type_.dtype})
    with graph.inserting_after(found):
        if not type_.shape:
            found = graph.call_function(_aten.reshape.default, (found, []))
    if found is not node:
        for user in users:
            user.replace_input_with(node, found)


def _border_dtype(node: fx.Node, dtype: torch.dtype) -> torch.dtype:
    narrow = _NARROWED.get(dtype, dtype)
    if narrow in _BORDER:
        return narrow
    raise CompileError(
        f"{str(dtype).removeprefix('torch.')} cannot cross the border of a Neuron segment",
        where=node.meta.get("source"),
        advice="cast it in the pipeline, or give the stage to another backend (--place)",
    )


def _static(node: fx.Node) -> TensorType:
    type_ = node.meta["type"]
    if isinstance(type_, TensorType) and None not in type_.shape:
        return type_
    raise CompileError(
        "Neuron takes tensors of fixed shape only (NCC_EMOD025)",
        where=node.meta.get("source"),
        advice="pad to a fixed size, or make the step a part of the host op before it",
    )


# --- constants and devices ----------------------------------------------------------------------


def _put_constants(
    graph: fx.Graph, root: nn.Module, constants: Mapping[str, torch.Tensor]
) -> dict[str, str]:
    """Gives the buffer of each constant."""
    places: dict[str, str] = {}
    for node in graph.nodes:
        if node.op != "get_attr":
            continue
        name = cast(str, node.target)
        tensor = constants[name]
        if name not in places:
            _check_fits(tensor, name)
            places[name] = f"constant_{len(places)}_{identifier(name)}"
            root.register_buffer(places[name], tensor)
        node.target = places[name]
    return places


def _check_fits(tensor: torch.Tensor, name: str) -> None:
    if tensor.dtype != torch.int64 or not tensor.numel() or tensor.is_meta:
        return
    low, high = (int(n) for n in torch.aminmax(tensor))
    if -(2**31) <= low and high < 2**31:
        return
    raise CompileError(
        f"the constant {name!r} holds {low if low < -(2**31) else high}, which does not fit in 32 "
        "bits (NCC_ESFH002)",
        advice="use smaller numbers, or give the stage to another backend (--place)",
    )


def _drop_devices(graph: fx.Graph, root: nn.Module) -> None:
    """No op names a device, and none makes a tensor out of nothing."""
    for node in list(graph.nodes):
        if node.op != "call_function" or not _names_device(node):
            continue
        if node.all_input_nodes:
            node.kwargs = {k: v for k, v in node.kwargs.items() if k not in _PLACING}
            continue
        _fold(graph, root, node)


#: Arguments that say where a tensor lies.
_PLACING = ("device", "pin_memory", "layout")


def _names_device(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and any(a.name == "device" for a in schema.arguments)


def _fold(graph: fx.Graph, root: nn.Module, node: fx.Node) -> None:
    """Compute an op without operands now."""
    with torch.no_grad():
        tensor = cast(Any, node.target)(*node.args, **node.kwargs)
    first = tensor.reshape(-1)[:1]
    with graph.inserting_before(node):
        if tensor.numel() > 1 and bool((tensor == first).all()):
            # One number: a large mask must not become a large constant.
            name = _buffer(root, first.clone())
            one = graph.get_attr(name)
            flat = graph.call_function(_aten.reshape.default, (one, [1] * tensor.dim()))
            new = graph.call_function(_aten.expand.default, (flat, list(tensor.shape)))
        elif tensor.nbytes <= _FOLDED_BYTES:
            new = graph.get_attr(_buffer(root, tensor))
        else:
            raise CompileError(
                f"{node.target} makes {tensor.nbytes} bytes out of nothing",
                where=node.meta.get("source"),
                advice="make the tensor when the module is made, and register it as a buffer",
            )
    new.meta.update(node.meta)
    node.replace_all_uses_with(new)
    graph.erase_node(node)


def _buffer(root: nn.Module, tensor: torch.Tensor) -> str:
    name = f"made_{sum(1 for _ in _made(root))}"
    root.register_buffer(name, tensor)
    return name


def _made(root: nn.Module) -> Iterator[str]:
    return (name for name, _ in root.named_buffers() if name.startswith("made_"))
