"""Graphs whose weights are compressed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import fx

from partitioner.compression.ops import OVERLOAD
from partitioner.compression.quantise import by_block, by_channel
from partitioner.compression.static import LARGEST, StaticProduct
from partitioner.passes.ops import argument, op_name, shape_of
from partitioner.program import Program, TensorType, add_node, node_type

__all__ = ["LEVELS", "STATIC", "Level", "compressed", "weights_of"]

aten = torch.ops.aten


@dataclass(frozen=True)
class Level:
    """How weights are stored.

    Attributes:
        bits: of the weights of matrix products that are multiplied as they are packed; 0 if none
            are.
        channels: whether other weights are stored in 8 bits with a scale for each channel, and
            turned into float32 when the bundle is loaded.
        static: whether both operands of products are in 8 bits, with ranges known beforehand
            (:mod:`partitioner.compression.static`); products of which none are known have their
            weights in 8 bits only.
    """

    name: str
    bits: int
    channels: bool
    static: bool = False


#: From the smallest to float.
LEVELS = (
    Level("int4", 4, channels=True),
    Level("int8", 8, channels=True),
    Level("int8-weights", 0, channels=True),
    Level("float", 0, channels=False),
)

#: What ``--quantize int8`` tries first.
STATIC = Level("int8-static", 0, channels=True, static=True)

#: Blocks of a packed weight: the smallest that kernels of all CPUs have.
_BLOCK = 32

#: Smaller weights are not worth a scale.
_SMALLEST_BYTES = 16 * 2**10

_CONVOLUTIONS = frozenset(
    [f"{kind}{dims}d" for kind in ("conv", "conv_transpose") for dims in (1, 2, 3)]
)


def weights_of(graph: fx.Graph) -> Iterator[tuple[fx.Node, fx.Node]]:
    """Products and convolutions with their constant weights, where compression is worth it."""
    for node in graph.nodes:
        if op_name(node) not in ("matmul", "mm", "linear", *_CONVOLUTIONS):
            continue
        weight = node.args[1]
        if not isinstance(weight, fx.Node) or weight.op != "get_attr":
            continue
        type_ = node_type(weight)
        plain = op_name(node) in _CONVOLUTIONS or len(type_.shape) == 2
        if plain and type_.dtype == torch.float32 and type_.nbytes >= _SMALLEST_BYTES:
            yield node, weight


def compressed(
    program: Program,
    level_of: Callable[[str], Level],
    products: Mapping[str, StaticProduct] | None = None,
) -> Program:
    """The program with compressed weights.

    Args:
        level_of: the level of a constant, by name.
        products: what is known of products in 8 bits, by the name of their weight.
    """
    result = program.copy()
    writer = _Writer(result, products or {})
    for _, graph in result.all_graphs():
        for node, weight in list(weights_of(graph)):
            writer.rewrite(graph, node, weight, level_of(cast(str, weight.target)))
    _drop_unused(result)
    return result


def _drop_unused(program: Program) -> None:
    named: set[str] = set()
    for _, graph in program.all_graphs():
        for node in list(graph.nodes):
            if node.op == "get_attr" and not node.users:
                graph.erase_node(node)
            elif node.op == "get_attr":
                named.add(cast(str, node.target))
    for name in [name for name in program.constants if name not in named]:
        del program.constants[name]


class _Writer:
    """Rewrites nodes of one program; a weight that several read is compressed once."""

    def __init__(self, program: Program, products: Mapping[str, StaticProduct]) -> None:
        self._program, self._products = program, products
        self._names: dict[tuple[str, Any], tuple[str, str]] = {}
        self._rounded: dict[tuple[fx.Node, float, int], fx.Node] = {}

    def rewrite(self, graph: fx.Graph, node: fx.Node, weight: fx.Node, level: Level) -> None:
        product = self._products.get(cast(str, weight.target))
        rows = shape_of(weight)[0]
        products = op_name(node) in ("matmul", "mm") and rows % _BLOCK == 0
        with graph.inserting_before(node):
            if level.static and product is not None:
                self._static(graph, node, weight, product)
            elif level.bits and products and len(shape_of(node.args[0])) >= 2:
                self._packed(graph, node, weight, level.bits)
            elif level.channels:
                self._channels(graph, node, weight)

    def _packed(self, graph: fx.Graph, node: fx.Node, weight: fx.Node, bits: int) -> None:
        name = cast(str, weight.target)
        k, n = shape_of(weight)

        def make() -> Mapping[str, torch.Tensor]:
            found = by_block(self._program.constants[name], bits, _BLOCK)
            return {f"int{bits}": found.packed, f"int{bits}.scale": found.scales}

        packed, scales = self._constants(graph, node, name, bits, make)
        product = add_node(
            graph,
            "call_function",
            OVERLOAD,
            (node.args[0], packed, scales, k, n, bits, _BLOCK),
            type=node_type(node),
            like=node,
        )
        node.replace_all_uses_with(product)
        graph.erase_node(node)

    def _channels(self, graph: fx.Graph, node: fx.Node, weight: fx.Node) -> None:
        name = cast(str, weight.target)
        channel = _channel(node)

        def make() -> Mapping[str, torch.Tensor]:
            found = by_channel(self._program.constants[name], channel)
            return {"int8": found.codes, "int8.scale": found.scales}

        codes, scales = self._constants(graph, node, name, ("channel", channel), make)
        self._widened(graph, node, weight, codes, scales)

    def _static(
        self, graph: fx.Graph, node: fx.Node, weight: fx.Node, product: StaticProduct
    ) -> None:
        x = cast(fx.Node, node.args[0])
        key = (x, product.step, product.zero)
        if key not in self._rounded:
            self._rounded[key] = add_node(
                graph,
                "call_function",
                aten.fake_quantize_per_tensor_affine.default,
                (x, product.step, product.zero, 0, LARGEST),
                type=node_type(x),
                like=node,
            )
        node.update_arg(0, self._rounded[key])

        def make() -> Mapping[str, torch.Tensor]:
            return {"int8": product.codes, "int8.scale": product.scales}

        name = cast(str, weight.target)
        codes, scales = self._constants(graph, node, name, "static", make)
        self._widened(graph, node, weight, codes, scales)

    def _widened(
        self, graph: fx.Graph, node: fx.Node, weight: fx.Node, codes: fx.Node, scales: fx.Node
    ) -> None:
        """Let a product read codes times scales instead of its weight."""
        type_ = node_type(weight)
        wide = add_node(
            graph,
            "call_function",
            aten._to_copy.default,
            (codes,),
            {"dtype": type_.dtype},
            type=type_,
            like=node,
        )
        whole = add_node(
            graph, "call_function", aten.mul.Tensor, (wide, scales), type=type_, like=node
        )
        node.update_arg(1, whole)

    def _constants(
        self,
        graph: fx.Graph,
        like: fx.Node,
        name: str,
        how: Any,
        make: Callable[[], Mapping[str, torch.Tensor]],
    ) -> tuple[fx.Node, fx.Node]:
        if (name, how) not in self._names:
            codes, scales = (
                self._program.add_constant(f"{name}.{suffix}", tensor)
                for suffix, tensor in make().items()
            )
            self._names[name, how] = (codes, scales)
        first, second = (
            add_node(
                graph,
                "get_attr",
                constant,
                type=TensorType.of(self._program.constants[constant]),
                like=like,
            )
            for constant in self._names[name, how]
        )
        return first, second


def _channel(node: fx.Node) -> int:
    """The dimension of the weight that is one of the result's."""
    if op_name(node) in ("matmul", "mm"):
        return 1
    transposed = "transpose" in op_name(node)
    # With groups, a transposed convolution's results lie in two dimensions of its weight.
    return 1 if transposed and argument(node, 6, "groups", 1) == 1 else 0
