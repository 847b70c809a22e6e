"""Moves of data in the form that costs least.

Reshapes are free: nothing is moved. So taking the only row of a dimension is written as one, where
a runtime would copy the whole tensor, and reshapes of reshapes are one.

A permutation that brings another dimension to the end reads or writes single numbers, far apart.
Done in two, it does not: first that dimension alone goes to the end, for which runtimes have
kernels, then whole rows change places. Interleaving a wavelet's bands (2 x 7 x 2 x 2 x 22 x 22 x
22, to 7 x 44 x 44 x 44) takes ONNX Runtime 0.6 instead of 2.3 ms on two cores, and OpenVINO as long
as before.

Exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import fx

from partitioner.passes.base import Pass
from partitioner.passes.notes import note
from partitioner.passes.ops import argument, op_name, shape_of, taken_rows
from partitioner.program import Program, TensorType, add_node, node_type

__all__ = ["CheapenMoves", "Split", "collapsed", "split"]

aten = torch.ops.aten

#: After ``normalise``, which writes views and squeezes as reshapes.
_RESHAPES = frozenset({"reshape", "unsqueeze"})

#: Smaller tensors are moved in microseconds, whichever way.
_SMALL_ELEMENTS = 4096

#: Rows of fewer numbers are not worth a pass over the data of their own.
_SHORT_ROW = 8


def collapsed(shape: Sequence[int], order: Sequence[int]) -> tuple[list[int], list[int]]:
    """The same permutation of as few dimensions as can be: (sizes, order).

    Dimensions of size 1 are left out; those that stay side by side are one.
    """
    runs: list[list[int]] = []
    for dim in (d for d in order if shape[d] != 1):
        last = runs[-1][-1] if runs else None
        if last is not None and all(shape[d] == 1 for d in range(last + 1, dim)) and last < dim:
            runs[-1].append(dim)
        else:
            runs.append([dim])
    ranked = sorted(runs)
    sizes = [math.prod(shape[d] for d in run) for run in ranked]
    return sizes, [ranked.index(run) for run in runs]


@dataclass(frozen=True)
class Split:
    """A permutation in two steps: reshape and permute, twice.

    Attributes:
        sizes, order: of the first step.
        rows, row_order: of the second; its last dimension stays the last.
    """

    sizes: tuple[int, ...]
    order: tuple[int, ...]
    rows: tuple[int, ...]
    row_order: tuple[int, ...]


def split(shape: Sequence[int], order: Sequence[int]) -> Split | None:
    """A permutation in two steps; None where one is as good."""
    sizes, order = collapsed(shape, order)
    rank = len(order)
    if math.prod(sizes) < _SMALL_ELEMENTS or order[-1] == rank - 1 or _moves_one(order):
        return None
    first = [d for d in range(rank) if d != order[-1]] + [order[-1]]
    rows, second = collapsed([sizes[d] for d in first], [first.index(d) for d in order])
    # With as many dimensions as before, exporters would make one permutation of both again.
    if len(rows) == rank or second[-1] != len(rows) - 1 or rows[-1] < _SHORT_ROW:
        return None
    return Split(tuple(sizes), tuple(first), tuple(rows), tuple(second))


def _moves_one(order: Sequence[int]) -> bool:
    """Whether all dimensions but one keep their order; runtimes have kernels for that."""
    return any(
        [d for d in order if d != one] == [d for d in range(len(order)) if d != one]
        for one in order
    )


class _Emitter:
    """Puts ops before a node, like it."""

    def __init__(self, node: fx.Node) -> None:
        self.node = node

    def reshape(self, value: fx.Node, shape: Sequence[int]) -> fx.Node:
        while op_name(value) in _RESHAPES:
            value = cast(fx.Node, value.args[0])
        if tuple(shape) == shape_of(value):
            return value
        return self._op(aten.reshape.default, (value, list(shape)), shape)

    def permute(self, value: fx.Node, order: Sequence[int]) -> fx.Node:
        shape = [shape_of(value)[d] for d in order]
        return self._op(aten.permute.default, (value, list(order)), shape)

    def taken(self, value: fx.Node, dim: int) -> fx.Node:
        """The rows that the node, a slice or a selection, takes: of another value's ``dim``."""
        shape = list(shape_of(value))
        rows = taken_rows(self.node, shape[dim])
        shape[dim] = len(rows)
        args = (value, dim, rows.start, rows.stop, rows.step)
        return self._op(aten.slice.Tensor, args, shape)

    def _op(self, target: Any, args: tuple[Any, ...], shape: Sequence[int]) -> fx.Node:
        type_ = TensorType(tuple(shape), node_type(self.node).dtype)
        graph = self.node.graph
        with graph.inserting_before(self.node):
            return add_node(graph, "call_function", target, args, type=type_, like=self.node)


def _cheaper(node: fx.Node) -> fx.Node | None:
    """What stands for a node at less cost, or None."""
    if not isinstance(node.meta.get("type"), TensorType) or None in node_type(node).shape:
        return None
    name, emitter = op_name(node), _Emitter(node)
    source = node.args[0] if node.args else None
    if not isinstance(source, fx.Node) or None in node_type(source).shape:
        return None
    if name == "select":
        dim = cast(int, argument(node, 1, "dim", 0))
        if shape_of(source)[dim] == 1:
            return emitter.reshape(source, shape_of(node))
    if name in ("select", "slice") and op_name(source) in _RESHAPES:
        return _cut_before(node, source, emitter)
    if name == "reshape" and op_name(source) in _RESHAPES:
        return emitter.reshape(source, shape_of(node))
    if name == "permute":
        return _permuted(node, source, emitter)
    return None


def _cut_before(node: fx.Node, source: fx.Node, emitter: _Emitter) -> fx.Node | None:
    """Rows taken before the reshape that the operand is, where that only sets or drops ones."""
    origin = cast(fx.Node, source.args[0])
    shape, own = shape_of(origin), shape_of(source)
    places = [d for d, size in enumerate(own) if size != 1]
    origins = [d for d, size in enumerate(shape) if size != 1]
    dim = cast(int, argument(node, 1, "dim", 0)) % len(own)
    if own[dim] == 1 or [own[d] for d in places] != [shape[d] for d in origins]:
        return None
    return emitter.reshape(emitter.taken(origin, origins[places.index(dim)]), shape_of(node))


def _permuted(node: fx.Node, source: fx.Node, emitter: _Emitter) -> fx.Node | None:
    shape = shape_of(source)
    order = [d % len(shape) for d in cast("Sequence[int]", node.args[1])]
    found = split(shape, order)
    if found is None:
        return None
    turned = emitter.permute(emitter.reshape(source, found.sizes), found.order)
    rows = emitter.permute(emitter.reshape(turned, found.rows), found.row_order)
    return emitter.reshape(rows, shape_of(node))


@dataclass(frozen=True)
class CheapenMoves(Pass):
    """Reshapes for selections of the only row, one for many; permutations row by row."""

    name: ClassVar[str] = "cheapen-moves"

    def apply(self, program: Program) -> bool:
        count = 0
        for _, graph in program.all_graphs():
            for node in list(graph.nodes):
                value = _cheaper(node) if op_name(node) else None
                if value is None:
                    continue
                node.replace_all_uses_with(value)
                graph.erase_node(node)
                count += 1
        if count:
            note(f"{count} moves of data in cheaper forms")
        return bool(count)
