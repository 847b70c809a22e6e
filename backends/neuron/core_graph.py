"""A segment in the few ops that lowering to HLO begins with, none of its constants inside.

Every constant is an argument behind the segment's inputs, as ``torch_neuronx.trace`` makes
parameters of a module's weights; so the text of a segment is small, however large its weights are.
What depends on nothing (an ``arange``) is computed here, and is an argument, too, unless it is one
number repeated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.fx.traceback as fx_traceback
from torch import fx
from torch._decomp import core_aten_decompositions, get_decompositions
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.node import map_arg

from partitioner.backends.decomposed import Decompositions
from partitioner.backends.lifting import lifted_module
from partitioner.program import TensorType

__all__ = ["PLACE", "CoreGraph", "core_graph"]

_aten = torch.ops.aten

#: The file that nodes say they come from; the line is the number of a node of the segment.
PLACE = "partitioner"

#: What depends on nothing becomes an argument up to this size.
_FOLDED_BYTES = 16 * 2**20


@dataclass(frozen=True)
class CoreGraph:
    """A graph of core ops.

    Attributes:
        module: of it; its nodes have ``meta["val"]``, and ``meta["stack_trace"]`` as said at
            :data:`PLACE`.
        constants: names of constants that are arguments behind the segment's inputs, in order.
        folded: values of the arguments behind those.
    """

    module: fx.GraphModule
    constants: tuple[str, ...]
    folded: tuple[torch.Tensor, ...]


def core_graph(
    graph: fx.Graph,
    constants: Mapping[str, TensorType],
    decompositions: Decompositions | None = None,
) -> CoreGraph:
    """Take a segment apart.

    Args:
        graph: of the segment; written to.
        constants: types of all constants that it reads, by name.
        decompositions: beside those of this module; torch's core set if not given.
    """
    for number, node in enumerate(graph.nodes):
        node.meta["stack_trace"] = f'File "{PLACE}", line {number}, in segment\n'
    names = dict.fromkeys(cast(str, n.target) for n in graph.nodes if n.op == "get_attr")
    lifted = {name: constants[name] for name in names}
    module = lifted_module(graph, {}, lifted)
    types = [n.meta["type"] for n in graph.nodes if n.op == "placeholder"]
    table = {**(decompositions or core_aten_decompositions()), **_OWN}
    traced = _trace(module, types, table)
    return CoreGraph(traced, tuple(names), tuple(_fold(traced)))


def _trace(
    module: fx.GraphModule, types: list[TensorType], table: Decompositions
) -> fx.GraphModule:
    interpreter = fx.Interpreter(module)

    def run(*tensors: torch.Tensor) -> Any:
        with fx_traceback.preserve_node_meta():
            return interpreter.run(*tensors)

    with FakeTensorMode(), torch.no_grad():
        tensors = [type_.empty("cpu") for type_ in types]
        return make_fx(run, decomposition_table=cast(Any, table))(*tensors)


# --- decompositions -----------------------------------------------------------------------------


def _var_mean(
    x: torch.Tensor,
    dim: list[int] | None = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """In the dtype of ``x``, as XLA's front end computes it; torch-mlir's own is in float64."""
    dims = list(dim) if dim else list(range(x.dim()))
    count = math.prod(x.shape[d] for d in dims)
    mean = _aten.mean.dim(x, dims, True)
    centred = _aten.sub.Tensor(x, mean)
    squares = _aten.sum.dim_IntList(_aten.mul.Tensor(centred, centred), dims, keepdim)
    rest = count - (1 if correction is None else correction)
    variance = _aten.div.Tensor(squares, max(rest, 0))
    return variance, mean if keepdim else _aten.squeeze.dims(mean, dims)


def _var(x: torch.Tensor, dim: list[int] | None = None, **options: Any) -> torch.Tensor:
    return _var_mean(x, dim, **options)[0]


#: Beyond torch's core set: what torch-mlir does not lower.
_OWN: Decompositions = {
    **get_decompositions(
        [
            _aten.native_group_norm,
            _aten.native_layer_norm,
            _aten._upsample_nearest_exact1d,
            _aten._upsample_nearest_exact2d,
            _aten._upsample_nearest_exact3d,
            _aten.upsample_nearest1d,
            _aten.upsample_nearest2d,
            _aten.upsample_nearest3d,
            _aten.upsample_linear1d,
            _aten.upsample_bilinear2d,
            _aten.upsample_trilinear3d,
            _aten.upsample_bicubic2d,
        ]
    ),
    _aten.var_mean.correction: _var_mean,
    _aten.var.correction: _var,
}


# --- what depends on nothing --------------------------------------------------------------------


def _fold(module: fx.GraphModule) -> list[torch.Tensor]:
    """Compute it now; gives the values that became arguments, in order."""
    graph = module.graph
    known: dict[fx.Node, Any] = {}
    for node in graph.nodes:
        if node.op == "get_attr":
            known[node] = getattr(module, cast(str, node.target))
        elif node.op == "call_function" and all(n in known for n in node.all_input_nodes):
            args, kwargs = map_arg((node.args, node.kwargs), cast(Any, known.__getitem__))
            known[node] = node.target(*args, **kwargs)
    found = [node for node in known if _is_read(node, known)]
    folded: list[torch.Tensor] = []
    for node in found:
        folded += _replace(graph, node, known[node])
    graph.eliminate_dead_code()
    module.recompile()
    return folded


def _is_read(node: fx.Node, known: Mapping[fx.Node, Any]) -> bool:
    """Whether what is not known reads it."""
    return isinstance(known[node], torch.Tensor) and any(user not in known for user in node.users)


def _replace(graph: fx.Graph, node: fx.Node, value: torch.Tensor) -> list[torch.Tensor]:
    """Put an argument, or one number repeated, in a node's place; gives what is an argument."""
    if value.numel() and bool((value == value.reshape(-1)[0]).all()):
        with graph.inserting_before(node):
            new = graph.call_function(
                _aten.full.default,
                (list(value.shape), value.reshape(-1)[0].item()),
                {"dtype": value.dtype, "device": torch.device("cpu"), "pin_memory": False},
            )
        arguments: list[torch.Tensor] = []
    elif value.nbytes <= _FOLDED_BYTES:
        behind = next(n for n in graph.nodes if n.op != "placeholder")
        with graph.inserting_before(behind):
            new = graph.placeholder(f"folded_{node.name}")
        arguments = [value]
    else:
        return []
    new.meta["val"] = FakeTensorMode().from_tensor(value)
    if "stack_trace" in node.meta:
        new.meta["stack_trace"] = node.meta["stack_trace"]
    node.replace_all_uses_with(new)
    return arguments
