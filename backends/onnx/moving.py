"""ONNX graphs whose tensors get other names, and whose weights lie elsewhere.

What the exporter makes of a segment depends on neither, so one export serves all builds in which
the same segment occurs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from partitioner.artifacts.digest import hex_of
from partitioner.artifacts.manifest import ConstantRef
from partitioner.backends.base import Outside
from partitioner.backends.lifting import WEIGHT
from partitioner.errors import CompileError

__all__ = ["moved_graph", "point_to", "rename"]


def moved_graph(data: bytes, old: Outside, new: Outside) -> bytes:
    """A graph that was made for ``old``, as it is made for ``new``.

    Args:
        data: an ONNX protobuf; weights are initialisers ``/weight_0`` and so on.

    Raises:
        CompileError: it has no initialiser for one of the places.
    """
    import onnx

    model = onnx.load_model_from_string(data)
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    for index, place in enumerate(new.places):
        tensor = initializers.get(f"/{WEIGHT.format(index)}")
        if tensor is None:
            raise CompileError(f"a kept graph has no weight {index}")
        point_to(tensor, place)
    names = dict(zip((*old.inputs, *old.outputs), (*new.inputs, *new.outputs), strict=True))
    rename(model.graph, lambda name: names.get(name, name))
    return model.SerializeToString(deterministic=True)


def point_to(tensor: Any, ref: ConstantRef) -> None:
    """Let a tensor's numbers lie in a blob of the bundle."""
    del tensor.external_data[:]
    for key, value in (
        ("location", hex_of(ref.blob)),
        ("offset", str(ref.offset)),
        ("length", str(ref.nbytes)),
    ):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


def rename(graph: Any, name_of: Callable[[str], str]) -> None:
    """Give every value of a graph another name; an operand that is left out has none."""

    def renamed(name: str) -> str:
        return name_of(name) if name else name

    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = renamed(value.name)
    for node in graph.node:
        node.input[:] = [renamed(name) for name in node.input]
        node.output[:] = [renamed(name) for name in node.output]
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                rename(inner, name_of)
