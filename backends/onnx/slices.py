"""Slices of slices, along different dimensions, as one: ONNX has an op that cuts along several.

The exporter makes a Slice of each of torch's, and each copies what the one before it left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["merge_slices"]

_Numbers = npt.NDArray[np.int64]


def merge_slices(model: Any) -> None:
    """Let each Slice of a Slice that nothing else reads cut along the dimensions of both.

    Args:
        model: an ``onnx.ModelProto``; its graph is changed in place.
    """
    import onnx

    graph = model.graph
    numbers = {i.name: i for i in graph.initializer if i.data_type == onnx.TensorProto.INT64}
    uses = Counter(_reads(graph))
    slices = {node.output[0]: node for node in graph.node if node.op_type == "Slice"}
    merged: set[str] = set()
    for node in list(slices.values()):
        before = slices.get(node.input[0])
        if before is None or uses[before.output[0]] != 1:
            continue
        cuts = _joined(_cuts(before, numbers), _cuts(node, numbers))
        if cuts is None:
            continue
        names = [f"{node.output[0]}.{part}" for part in ("starts", "ends", "axes", "steps")]
        for name, values in zip(names, cuts, strict=True):
            numbers[name] = onnx.numpy_helper.from_array(values, name)
            graph.initializer.append(numbers[name])
        node.input[:] = [before.input[0], *names]
        merged.add(before.output[0])
    kept = [node for node in graph.node if not merged.intersection(node.output)]
    del graph.node[:]
    graph.node.extend(kept)
    _drop_unused(graph)


def _reads(graph: Any) -> Iterator[str]:
    """Every name that is read, as often as it is; graphs inside of nodes read outer names, too."""
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _reads(inner)
    yield from (value.name for value in graph.output)


def _cuts(node: Any, numbers: Mapping[str, Any]) -> list[_Numbers] | None:
    """Starts, ends, axes and steps of a Slice; None where they are not all constants."""
    import onnx

    names = list(node.input[1:])
    if len(names) < 3 or not all(name in numbers for name in names):
        return None
    found = [onnx.numpy_helper.to_array(numbers[name]).reshape(-1) for name in names]
    return found if len(found) == 4 else [*found, np.ones_like(found[0])]


def _joined(first: list[_Numbers] | None, second: list[_Numbers] | None) -> list[_Numbers] | None:
    """Both cuts at once; None where they meet in a dimension."""
    if first is None or second is None:
        return None
    axes = np.concatenate([first[2], second[2]])
    if (axes < 0).any() or len(set(axes.tolist())) != len(axes):
        return None
    return [np.concatenate(pair) for pair in zip(first, second, strict=True)]


def _drop_unused(graph: Any) -> None:
    """Without initialisers that nothing reads any more."""
    used = set(_reads(graph))
    kept = [i for i in graph.initializer if i.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
