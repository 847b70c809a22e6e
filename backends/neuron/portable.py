"""A segment as a file that can be compiled later, elsewhere, without the model: its graph as JSON.

No pickle, and none of torch's own formats (two saves of a ``.pt2`` differ, and it embeds pickled
inputs): ops by name, small constants in the text, weights by their places in the bundle's blobs.
What is read comes from elsewhere, so an op that the backend's own table does not take is refused
before anything of it is looked up and run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import fx

from partitioner.artifacts.faults import damaged
from partitioner.artifacts.jsontext import dumps, loads
from partitioner.artifacts.manifest import ConstantRef
from partitioner.backends.graphs import from_json, to_json
from partitioner.backends.lifting import lifted_names
from partitioner.backends.neuron.support import verdict
from partitioner.backends.verdicts import Rejected
from partitioner.program import TensorType
from partitioner.targets import find_target
from partitioner.weights import MappedBlobs

if TYPE_CHECKING:
    from partitioner.planning.segments import Segment
    from partitioner.weights import Layout

__all__ = ["Portable", "read_portable", "write_portable"]

_FORMAT = 1

#: Namespaces of ops that segments have.
_NAMESPACES = ("aten", "prims")


@dataclass(frozen=True)
class Portable:
    """A segment that was read.

    Attributes:
        graph: as a segment has it.
        constants: all of them; weights are mapped from their files.
        stages: outermost stages of its nodes.
        sources: some source lines of the user.
        weight_bytes: of what lies in blobs.
    """

    graph: fx.Graph
    constants: dict[str, torch.Tensor]
    stages: tuple[str, ...]
    sources: tuple[str, ...]
    weight_bytes: int


def write_portable(
    segment: Segment, constants: Mapping[str, torch.Tensor], layout: Layout, path: Path
) -> tuple[str, ...]:
    """Write a segment; gives the digests of the blobs that it reads, in the file's order."""
    lifted = lifted_names(segment, constants)
    weights = sorted({layout[name].blob for name in lifted})
    document = {
        "format": _FORMAT,
        "graph": to_json(segment.graph, constants, lifted),
        "stages": list(segment.stages),
        "sources": list(segment.sources),
        "weights": {
            name: [weights.index(layout[name].blob), layout[name].offset, layout[name].nbytes]
            for name in sorted(lifted)
        },
    }
    path.write_bytes(dumps(document))
    return tuple(weights)


def read_portable(path: Path, weights: Sequence[Path], family: str) -> Portable:
    """Read a segment.

    Args:
        weights: the files of its blobs, in the order in which it was written.
        family: of the target that it is for.

    Raises:
        BundleError: malformed; it reaches outside of its weights; or it has an op that the
            backend does not take.
    """
    document = loads(path.read_bytes(), "the portable graph")
    try:
        if document["format"] != _FORMAT:
            raise damaged(f"a portable graph of the format {document['format']!r:.20}", path)
        _check_names(document["graph"], path)
        graph, constants, lifted = from_json(document["graph"])
        places = {name: _place(document["weights"][name], type_) for name, type_ in lifted.items()}
        stages, sources = (tuple(map(str, document[key])) for key in ("stages", "sources"))
        graph.lint()
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        raise damaged(f"the portable graph is malformed: {error!s:.200}", path) from error
    _check_ops(graph, family, path)
    return Portable(
        graph,
        {**constants, **_mapped(places, lifted, weights, path)},
        stages,
        sources,
        sum(ref.nbytes for _, ref in places.values()),
    )


def _place(entry: Any, type_: TensorType) -> tuple[int, ConstantRef]:
    index, offset, nbytes = entry
    if not all(type(n) is int and n >= 0 for n in (index, offset, nbytes)):
        raise ValueError("a weight's place is no place")
    if nbytes != type_.nbytes:
        raise ValueError("a weight has another size than its type")
    return index, ConstantRef("", offset, nbytes)


def _mapped(
    places: Mapping[str, tuple[int, ConstantRef]],
    lifted: Mapping[str, TensorType],
    weights: Sequence[Path],
    path: Path,
) -> dict[str, torch.Tensor]:
    blobs = MappedBlobs(lambda digest: weights[int(digest)])
    found: dict[str, torch.Tensor] = {}
    for name, (index, ref) in places.items():
        if index >= len(weights) or ref.offset + ref.nbytes > weights[index].stat().st_size:
            raise damaged(f"the weight {name!r:.80} lies outside of its blob", path)
        own = ConstantRef(str(index), ref.offset, ref.nbytes)
        found[name] = blobs.tensor(own, lifted[name].empty())
    return found


def _check_names(document: Any, path: Path) -> None:
    """Before an op is looked up by it."""
    for node in document["nodes"]:
        if node["op"] not in ("placeholder", "get_attr", "call_function", "output"):
            raise damaged(f"the portable graph has a node of kind {node['op']!r:.40}", path)
        name = str(node["target"])
        known = "getitem" in name or name.partition(".")[0] in _NAMESPACES
        if node["op"] == "call_function" and not known:
            raise damaged(f"the portable graph calls {name!r:.80}, which is no op of torch", path)


def _check_ops(graph: fx.Graph, family: str, path: Path) -> None:
    target = find_target(family)
    for node in graph.nodes:
        if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
            continue
        found = verdict(node, target)
        if isinstance(found, Rejected):
            raise damaged(
                f"the portable graph has {node.target}, which Neuron does not take: "
                f"{found.message}",
                cast(str, node.meta.get("source")) or path,
            )
