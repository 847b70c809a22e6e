"""The program: the captured pipeline as FX graphs of aten ops, loops and host ops.

A program holds one main graph and named sub-graphs (loop bodies, and stages that are called from
more than one place), all over one store of constants. Graphs are plain ``torch.fx.Graph``; what
makes them a program are these rules, which :func:`partitioner.verifier.verify` checks:

- a ``placeholder`` is an input of its graph;
- a ``get_attr`` names a constant of ``Program.constants`` (any graph may name any constant);
- a ``call_function`` calls an aten overload, ``operator.getitem``, or one of the three
  structural ops below, whose first argument is a name and whose operands are a flat tuple;
- ``output`` takes a flat tuple of nodes;
- every node but ``output`` has ``meta["type"]``: a :class:`TensorType`, or a tuple of them for
  an op with several results (None for a result that is not there);
- ``meta["source"]`` is the user's source line (``file.py:12 in forward``) and ``meta["stage"]``
  the path of the stage (``""`` for the driver's glue).

Random numbers are placeholders of the main graph (``Program.draws``), so running a program is
pure. A program can always be run eagerly (:mod:`partitioner.interpreter`).
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from torch import fx
from torch.fx.node import map_arg

from partitioner.hostops import HostOp
from partitioner.specs import InputSpec, TensorSpec

__all__ = [
    "STRUCTURAL",
    "DrawOp",
    "DrawSequence",
    "Program",
    "TensorType",
    "add_node",
    "call",
    "host",
    "loop",
    "node_type",
    "operands",
    "types_of",
]


@dataclass(frozen=True)
class TensorType:
    """Shape (ints; None where only data decide) and dtype of one value. Dense, on the CPU."""

    shape: tuple[int | None, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, tensor: torch.Tensor) -> TensorType:
        return cls(tuple(int(d) for d in tensor.shape), tensor.dtype)

    @property
    def spec(self) -> TensorSpec:
        """The same without torch, for plans and manifests."""
        return TensorSpec(str(self.dtype).removeprefix("torch."), self.shape)

    @property
    def numel(self) -> int:
        """Number of elements; raises TypeError where a dimension is unknown."""
        count = 1
        for dim in self.shape:
            if dim is None:
                raise TypeError("the number of elements depends on data")
            count *= dim
        return count

    @property
    def nbytes(self) -> int:
        return self.numel * self.dtype.itemsize

    def empty(self, device: str = "meta") -> torch.Tensor:
        """A tensor of this type; on ``meta`` it costs no memory."""
        shape = [1 if d is None else d for d in self.shape]
        return torch.empty(shape, dtype=self.dtype, device=device)


# --- structural ops -----------------------------------------------------------------------------
# They are never executed as functions: the interpreter and the planner know them by identity.


def call(graph: str, operands: tuple[fx.Node, ...]) -> tuple[Any, ...]:
    """Call a sub-graph; results by ``operator.getitem``."""
    raise NotImplementedError("run programs with partitioner.interpreter")


def loop(graph: str, operands: tuple[fx.Node, ...], trips: int, carries: int, slices: int) -> Any:
    """Run a sub-graph ``trips`` times.

    ``operands`` are first ``carries`` initial values, then ``slices`` stacked values of shape
    (rows, ...) with a row for each trip, and maybe more, then invariants; the body's placeholders
    are in the same order. The body's outputs are the ``carries`` next values, then values that are
    collected. Results (by ``operator.getitem``): the final carried values, then the collected
    ones, stacked.
    """
    raise NotImplementedError("run programs with partitioner.interpreter")


def host(op: str, operands: tuple[fx.Node, ...], options: dict[str, Any]) -> tuple[Any, ...]:
    """Run a host op of ``Program.host_ops`` on the operands; results in the op's own order."""
    raise NotImplementedError("run programs with partitioner.interpreter")


STRUCTURAL = frozenset((call, loop, host))


# --- random numbers -----------------------------------------------------------------------------


@dataclass(frozen=True)
class DrawOp:
    """One placeholder of the main graph that holds random numbers.

    ``row``: the placeholder is stacked, one row a repetition of its sequence.
    """

    placeholder: str
    distribution: Literal["normal", "uniform", "integers"]
    args: tuple[float, float]
    stream: int = 0
    row: bool = False


@dataclass(frozen=True)
class DrawSequence:
    """Draws in their order, repeated ``repeat`` times (the trips of a loop)."""

    repeat: int
    draws: tuple[DrawOp, ...]


# --- the program --------------------------------------------------------------------------------


@dataclass
class Program:
    """One pipeline, captured. See the module's docstring for the rules.

    Attributes:
        main: the graph that is run; its placeholders are the used inputs and the draws.
        graphs: sub-graphs by name.
        constants: weights, tables and other constants by name. Tensors may be shared with the
            user's modules and must never be written to.
        inputs: what the caller gives, in order; ``used`` ones are placeholders of ``main``.
        outputs: output names, in the order of ``main``'s output tuple. An output that does not
            depend on any input is a node like others (a ``get_attr``).
        draws: the random placeholders in the order in which eager draws them.
        host_ops: the host ops by name.
        held: constants that no segment may have compiled in: they differ between the variants of a
            bundle, which share their segments.
    """

    main: fx.Graph
    graphs: dict[str, fx.Graph] = field(default_factory=dict[str, fx.Graph])
    constants: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    inputs: tuple[InputSpec, ...] = ()
    outputs: tuple[str, ...] = ()
    draws: tuple[DrawSequence, ...] = ()
    host_ops: dict[str, HostOp] = field(default_factory=dict[str, HostOp])
    held: frozenset[str] = frozenset()

    def all_graphs(self) -> Iterator[tuple[str, fx.Graph]]:
        """``("main", main)`` first, then the sub-graphs by name."""
        yield "main", self.main
        yield from sorted(self.graphs.items())

    def copy(self) -> Program:
        """A copy that passes may change; tensors are shared, not copied."""
        return Program(
            main=copy_graph(self.main),
            graphs={name: copy_graph(graph) for name, graph in self.graphs.items()},
            constants=dict(self.constants),
            inputs=self.inputs,
            outputs=self.outputs,
            draws=self.draws,
            host_ops=dict(self.host_ops),
            held=self.held,
        )

    def add_constant(self, name: str, tensor: torch.Tensor) -> str:
        """Store a constant under ``name``, or under ``name_1``, ... if that is taken."""
        unique, count = name, 0
        while unique in self.constants:
            count += 1
            unique = f"{name}_{count}"
        self.constants[unique] = tensor.detach()
        return unique


def copy_graph(graph: fx.Graph) -> fx.Graph:
    """A copy with the same node names, types, sources and stages."""
    copied = fx.Graph()
    env: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        # As Graph.node_copy, but the operands come after: given at once, each is searched for
        # symbolic numbers, which takes half of the time of all passes.
        made = copied.create_node(node.op, node.target, (), {}, node.name, node.type)
        made.args = map_arg(node.args, env.__getitem__)
        if node.kwargs:
            made.kwargs = map_arg(node.kwargs, env.__getitem__)
        made.meta = dict(node.meta)
        env[node] = made
    return copied


def add_node(
    graph: fx.Graph,
    op: str,
    target: Any,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    *,
    type: TensorType | tuple[TensorType | None, ...],
    like: fx.Node | None = None,
    source: str = "",
    stage: str = "",
    name: str | None = None,
) -> fx.Node:
    """Append a node (at the graph's insertion point) with its type and where it comes from."""
    node = graph.create_node(op, target, args, kwargs or {}, name=name)
    node.meta["type"] = type
    node.meta["source"] = like.meta.get("source", "") if like is not None else source
    node.meta["stage"] = like.meta.get("stage", "") if like is not None else stage
    return node


def node_type(node: fx.Node) -> TensorType:
    """The type of a node with one result."""
    type_ = node.meta["type"]
    if not isinstance(type_, TensorType):
        raise TypeError(f"{node.format_node()} has {len(type_)} results")
    return type_


def types_of(nodes: Sequence[fx.Node]) -> tuple[TensorType, ...]:
    """The types of nodes with one result each."""
    return tuple(node_type(node) for node in nodes)


def operands(node: fx.Node) -> tuple[fx.Node, ...]:
    """The operand tuple of a structural node."""
    return cast("tuple[fx.Node, ...]", node.args[1])


def is_getitem(node: fx.Node) -> bool:
    """Whether a node takes one result of an op with several."""
    return node.op == "call_function" and node.target is operator.getitem
